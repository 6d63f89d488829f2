"""Devices that have lost their PAN notice, and join again; forged frames alone put nobody out."""

import itertools

from test_g3_node import Pan, eui

from flexmap.g3 import frame
from flexmap.g3.bootstrap import State
from flexmap.g3.ccm import Security
from flexmap.g3.frame import Frame, FrameKind
from flexmap.g3.medium import Transmission
from flexmap.g3.phy import Modulation
from flexmap.g3.rekey import Rekeying

PAN = 0x781D
NEW = bytes(16)


def poll(pan, answers):
    """The coordinator asks one device after the other, each every 20 s or so."""
    for device in pan.devices:
        device.udp.bind(1, lambda source, port, payload, node=device: node.udp.send(source, port, 1, payload))
    pan.coordinator.udp.bind(2, lambda source, _port, _payload: answers.add(source))
    turns = itertools.cycle(pan.devices)

    def ask():
        device = pan.coordinator.manager.registry.by_eui64(next(turns).eui64)
        pan.coordinator.udp.send(device.short_address, 1, 2, b"?")
        pan.time.callLater(7, ask)

    ask()


def chain(devices):
    pan = Pan(devices, metres=550.0)
    pan.run(600)
    assert pan.joined() == [True] * devices
    return pan


def test_devices_that_missed_a_re_keying_join_again_over_hops():
    """The second of three is dark meanwhile: it and the third, which it hides, are left with the old key."""
    pan = chain(3)
    answers = set()
    poll(pan, answers)
    pan.run(100)
    assert sorted(answers) == [1, 2, 3]
    addresses = [device.short_address for device in pan.devices]
    pan.medium.switch(pan.devices[1].line, on=False)
    reports = []
    Rekeying(pan.coordinator.manager, NEW, reports.append)
    pan.run(300)
    assert reports[0].lost == (eui(2), eui(3))
    pan.medium.switch(pan.devices[1].line, on=True)
    pan.run(1)
    assert pan.joined() == [True] * 3, "none of them knows yet"
    began = pan.time.seconds()
    lost = pan.devices[1:]
    for _ in range(600):
        pan.run(10)
        if all(device.boot.counters.lost and device.boot.state is State.JOINED for device in lost):
            break
    print("seconds until both are back:", pan.time.seconds() - began)
    assert pan.time.seconds() - began < 3000
    assert [device.short_address for device in pan.devices] == addresses
    assert pan.coordinator.manager.counters.rejoined == 2
    assert pan.devices[0].boot.counters.lost == 0
    answers.clear()
    pan.run(120)
    assert sorted(answers) == [1, 2, 3], "and they are read as before"


def forge(pan, device, number):
    """Somebody without the key says something in the coordinator's name."""
    security = Security((1 << 20) + number)
    security.set_key(0, b"?" * 16)
    short = device.short_address
    head = Frame(FrameKind.DATA, number, b"forged", short, PAN, 0, PAN)
    psdu = frame.encode(security.protect(head))
    now = pan.time.seconds()
    forger = Transmission(pan.coordinator.line, psdu, Modulation.ROBO, now, now)
    device.line.user.phy_data(psdu, 20.0, forger)


def test_forged_frames_make_a_quiet_device_look_for_its_coordinator_and_stay():
    pan = chain(2)
    far = pan.devices[1]
    pan.run(1000)
    asked = far.adp.loadng.counters.rreq
    for number in range(20):
        forge(pan, far, number)
        pan.run(20)
    assert far.adp.counters.security_failures == 20
    assert far.adp.loadng.counters.rreq == asked + 1, "once: the coordinator has answered"
    assert far.boot.state is State.JOINED
    assert far.boot.counters.lost == 0
    assert far.adp.loadng.route(0) is not None


def test_old_counters_raise_no_doubt():
    pan = chain(1)
    device = pan.devices[0]
    taken = []
    device.line.capture = lambda _at, psdu: taken.append(psdu)
    pan.coordinator.udp.send(device.short_address, 1, 2, b"x")
    pan.run(1000)
    secured = next(
        psdu for psdu in taken if frame.decode(psdu).source == 0 and frame.decode(psdu).counter is not None
    )
    now = pan.time.seconds()
    for _ in range(5):
        device.line.user.phy_data(
            secured, 20.0, Transmission(pan.coordinator.line, secured, Modulation.ROBO, now, now)
        )
        pan.run(60)
    assert device.get("macOldCounterCount") == 5
    assert device.adp.loadng.counters.discoveries == 0


def test_a_device_whose_pan_has_gone_looks_for_another():
    pan = chain(1)
    device = pan.devices[0]
    device.set("bootSilence", 3600)
    pan.medium.switch(pan.coordinator.line, on=False)
    pan.run(3600 + 600)
    assert device.boot.state is State.JOINED, "the silence was 4 h when it joined"
    pan.run(14_400 - 3600)
    assert device.boot.state is State.DISCOVERY
    pan.coordinator.manager.start(0x1234)
    pan.medium.switch(pan.coordinator.line, on=True)
    pan.run(600)
    assert device.boot.state is State.JOINED
    assert device.get("macPANId") == 0x1234


def test_a_device_that_is_told_something_now_and_then_stays():
    pan = chain(1)
    for _ in range(12):
        pan.run(3600)
        pan.coordinator.udp.send(1, 1, 2, b"x")
    assert pan.devices[0].adp.loadng.counters.discoveries == 0
    assert pan.devices[0].boot.state is State.JOINED
