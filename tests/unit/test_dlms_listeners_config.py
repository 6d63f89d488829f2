"""``[[dlms.listener]]``: what it becomes, and what is wrong is named."""

from pathlib import Path

import pytest

from flexmap.dlms.hdlc_server import HdlcSettings
from flexmap.faces.dlms.ports import HdlcPort, SerialPort, WrapperPort
from flexmap.gateway import config as configuration
from flexmap.gateway.demo import SECRETS, DemoOptions, write_config
from flexmap.gateway.dlms_face import dlms_settings
from flexmap.model import ConfigurationError

TEXT = write_config(DemoOptions(meters=1))


def parse(*listeners, text=TEXT):
    added = "".join(f"\n[[dlms.listener]]\n{listener}\n" for listener in listeners)
    return configuration.parse(text + added, Path("/site/demo.toml"))


def ports(*listeners, **changes):
    return dlms_settings(parse(*listeners, **changes), SECRETS).ports


def test_without_listeners_there_is_the_wrapper():
    assert ports() == (WrapperPort(host="127.0.0.1", port=4059),)


def test_every_kind():
    _, tcp, udp, hdlc, device, terminal = ports(
        'transport = "wrapper-tcp"\nlisten = "127.0.0.1:4060"',
        'transport = "wrapper-udp"\nlisten = "[::1]:61616"',
        'transport = "hdlc-tcp"\nlisten = "127.0.0.1:4061"\ndevice_address = 20\nmax_info = 256\nwindow = 2',
        'transport = "hdlc-serial"\nport = "serial:/dev/ttyUSB0?baud=19200"\nmode = "e"\naddress = "4711"',
        'transport = "hdlc-serial"\nport = "pty:lines/direct"\ninactivity_timeout = 30',
    )
    assert (tcp.host, tcp.port, tcp.tcp, tcp.udp) == ("127.0.0.1", 4060, True, False)
    assert (udp.host, udp.port, udp.tcp, udp.udp) == ("::1", 61616, False, True)
    assert isinstance(hdlc, HdlcPort)
    assert hdlc.hdlc == HdlcSettings(device_address=20, max_info=256, window=2)
    assert isinstance(device, SerialPort)
    assert (device.path, device.made, device.speed, device.mode_e) == ("/dev/ttyUSB0", False, 19200, True)
    assert (device.address, device.maker) == ("4711", "FMX")
    assert (terminal.path, terminal.made, terminal.speed, terminal.mode_e) == (
        "/site/lines/direct",
        True,
        9600,
        False,
    )
    assert terminal.hdlc == HdlcSettings(inter_octet_timeout=0.5, inactivity_timeout=30)


def test_the_maker_is_that_of_the_system_title():
    listener = 'transport = "hdlc-serial"\nport = "pty:x"'
    assert ports(listener, text=TEXT.replace("464D58000000", "41424300000A"))[1].maker == "ABC"
    assert ports(listener, text=TEXT.replace("464D58000000", "00FF0000000A"))[1].maker == "FMX"


@pytest.mark.parametrize(
    ("listener", "where", "what"),
    [
        ('transport = "carrier-pigeon"\nlisten = "127.0.0.1:1"', "demo.toml", "carrier-pigeon"),
        ('listen = "127.0.0.1:1"', "demo.toml", "transport"),
        ('transport = "hdlc-tcp"\nlisten = "localhost"', "[[dlms.listener]] 1", "HOST:PORT"),
        ('transport = "hdlc-tcp"', "demo.toml", "listen"),
        ('transport = "hdlc-tcp"\nlisten = "127.0.0.1:1"\nport = "pty:x"', "demo.toml", "port"),
        ('transport = "hdlc-tcp"\nlisten = "127.0.0.1:1"\nwindow = 8', "window", "<= 7"),
        ('transport = "hdlc-tcp"\nlisten = "127.0.0.1:1"\nmax_info = 16', "max_info", ">= 32"),
        ('transport = "hdlc-tcp"\nlisten = "127.0.0.1:1"\ndevice_address = 1', "device_address", ">= 16"),
        ('transport = "hdlc-serial"\nport = "/dev/ttyUSB0"', "[[dlms.listener]] 1", "no serial line"),
        ('transport = "hdlc-serial"\nport = "serial:"', "[[dlms.listener]] 1", "no serial line"),
        ('transport = "hdlc-serial"\nport = "serial:/x?baud=12345"', "[[dlms.listener]] 1", "no serial line"),
        ('transport = "hdlc-serial"\nport = "serial:/x?baud=fast"', "[[dlms.listener]] 1", "no serial line"),
        ('transport = "hdlc-serial"\nport = "serial:/x?colour=red"', "[[dlms.listener]] 1", "no serial line"),
        (
            'transport = "hdlc-serial"\nport = "serial:/x?baud=115200"\nmode = "e"',
            "[[dlms.listener]] 1",
            "mode E knows no 115200",
        ),
        ('transport = "hdlc-serial"\nport = "pty:x"\nmode = "c"', "mode", "'c'"),
    ],
)
def test_mistakes_are_named(listener, where, what):
    with pytest.raises(ConfigurationError) as caught:
        parse(listener)
    assert where in f"{caught.value.where} {caught.value}"
    assert what in str(caught.value)
    assert caught.value.remedy


def test_more_than_the_names_can_tell_apart():
    with pytest.raises(ConfigurationError, match="too many"):
        parse(*['transport = "wrapper-tcp"\nlisten = "127.0.0.1:0"'] * 64)
