"""Foreign clients on real sockets: every mechanism, suite and protection that they have, and what they do not."""

import contextlib
import subprocess
import sys
import time
from functools import partial
from itertools import count, product
from pathlib import Path

import cosem_client
import gurux_client
import pytest
from dlms_secure import SECRET, keys_of, private_of, public_of, sap_of
from dlms_toy import SAP, TITLE
from gateway_harness import Gateway, flexmap, free_ports
from remote import RemoteFailure

from flexmap.dlms.acse import Mechanism
from flexmap.dlms.security import AUTHENTICATED, AUTHENTICATED_ENCRYPTED, ENCRYPTED
from flexmap.gateway import secrets

SERIAL, NOTE, ENERGY = "0.0.96.1.0.255", "0.0.96.13.0.255", "1.0.1.8.0.255"
SECURITY_SETUP = "0.0.43.0.0.255"
PROTECTIONS = {"none": 0, "auth": AUTHENTICATED, "enc": ENCRYPTED, "auth+enc": AUTHENTICATED_ENCRYPTED}
SUITES = (0, 1, 2)

titles = (b"SEC" + number.to_bytes(5, "big") for number in count(1))


@pytest.fixture(scope="module")
def port():
    script = Path(gurux_client.__file__).parent / "dlms_secure_server.py"
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield int(process.stdout.readline())
        assert process.poll() is None, "the server died"
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def keys(suite):
    pair = keys_of(suite)
    return pair.guek, pair.gak


def use(meter, mechanism):
    """Read, and write where the client may; what comes back must be right."""
    assert bytes(meter.get(1, SERIAL, 2)) == b"FLX%08d" % SAP
    if mechanism != Mechanism.NONE:
        meter.set(1, NOTE, 2, b"written by " + mechanism.name.encode())
        assert bytes(meter.get(1, NOTE, 2)) == b"written by " + mechanism.name.encode()
        assert meter.get(3, ENERGY, 2) == 123456
    meter.close()


def outcome(attempt):
    try:
        attempt()
    except RemoteFailure as failure:
        return str(failure).partition(":")[0].split(".")[-1]
    return "ok"


def table(title, columns, cells):
    """Print the matrix: a row for each mechanism and suite."""
    print(f"\n{title}")
    print(f"{'mechanism':<12} suite  " + "".join(f"{column:<22}" for column in columns))
    for (mechanism, suite), row in cells.items():
        print(f"{mechanism.name:<12} {suite:>5}  " + "".join(f"{row[column]:<22}" for column in columns))


def gurux(meter, port, mechanism, suite, protection, **settings):
    signing = (private_of("client signing", suite), public_of("server signing", suite)) if suite else None
    meter.again(
        "127.0.0.1",
        port,
        client_sap=sap_of(mechanism, suite),
        server_sap=SAP,
        mechanism=int(mechanism),
        secret=None if mechanism in (Mechanism.NONE, Mechanism.HLS_GMAC, Mechanism.HLS_ECDSA) else SECRET,
        keys=keys(suite),
        title=next(titles),
        suite=suite,
        security=PROTECTIONS[protection],
        signing=signing if mechanism == Mechanism.HLS_ECDSA else None,
        **settings,
    )
    use(meter, mechanism)


def cosem(meter, port, mechanism, suite, **settings):
    meter.again(
        "127.0.0.1",
        port,
        client_sap=sap_of(mechanism, suite),
        server_sap=SAP,
        mechanism=int(mechanism),
        secret=SECRET if mechanism in (Mechanism.LLS, Mechanism.HLS) else None,
        title=next(titles),
        suite=suite,
        **settings,
    )
    use(meter, mechanism)


@pytest.fixture(scope="module")
def clients(port):
    """One process of each library for all associations."""
    public = {"client_sap": sap_of(Mechanism.NONE, 0), "server_sap": SAP}
    with (
        gurux_client.connect("127.0.0.1", port, **public) as by_gurux,
        cosem_client.connect("127.0.0.1", port, **public) as by_cosem,
    ):
        yield {"gurux": by_gurux, "cosem": by_cosem}


def rows(attempts):
    cells = {}
    for (mechanism, suite, column), attempt in attempts.items():
        cells.setdefault((mechanism, suite), {})[column] = outcome(attempt)
    return cells


def test_gurux_with_every_mechanism_suite_and_protection(port, clients):
    attempts = {
        (mechanism, suite, protection): partial(gurux, clients["gurux"], port, mechanism, suite, protection)
        for mechanism, suite, protection in product(Mechanism, SUITES, PROTECTIONS)
        if (mechanism, suite) != (Mechanism.HLS_ECDSA, 0)
    }
    cells = rows(attempts)
    table("gurux-dlms 1.0.203", PROTECTIONS, cells)
    for (mechanism, suite), row in cells.items():
        # Its ECDSA asks for P-256 twice, and so does not know P-384.
        can = "ValueError" if (mechanism, suite) == (Mechanism.HLS_ECDSA, 2) else "ok"
        # Encryption alone proves nothing: the server refuses it, whoever asks.
        assert row == {"none": can, "auth": can, "enc": "GXDLMSException", "auth+enc": can}, (mechanism, suite)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("dedicated", [False, True])
def test_gurux_with_global_and_dedicated_keys_in_both_forms(port, clients, suite, general, dedicated):
    key = bytes(range(50, 50 + len(keys(suite)[0]))) if dedicated else None
    gurux(clients["gurux"], port, Mechanism.HLS_GMAC, suite, "auth+enc", general=general, dedicated=key)


def test_cosem_with_every_mechanism_suite_and_protection(port, clients):
    has = (Mechanism.NONE, Mechanism.LLS, Mechanism.HLS, Mechanism.HLS_GMAC)
    attempts = {}
    for mechanism, suite in product(has, SUITES):
        attempts[mechanism, suite, "none"] = partial(cosem, clients["cosem"], port, mechanism, suite)
        attempts[mechanism, suite, "auth+enc"] = partial(
            cosem, clients["cosem"], port, mechanism, suite, keys=keys(suite)
        )
    cells = rows(attempts)
    table("dlms-cosem 25.1.0", ("none", "auth+enc"), cells)
    for (mechanism, suite), row in cells.items():
        # Its GMAC needs keys, and the error that says so is not imported.
        without = "NameError" if mechanism == Mechanism.HLS_GMAC else "ok"
        assert row == {"none": without, "auth+enc": "ok"}, (mechanism, suite)


def test_gurux_reads_the_security_setup(port):
    for suite in SUITES:
        title = next(titles)
        with gurux_client.connect(
            "127.0.0.1",
            port,
            client_sap=sap_of(Mechanism.HLS_GMAC, suite),
            server_sap=SAP,
            keys=keys(suite),
            title=title,
            suite=suite,
        ) as meter:
            found = [meter.get(64, SECURITY_SETUP, index) for index in range(2, 7)]
            assert found == [0b01101100, suite, b"", TITLE, None]
            meter.close()


def manager(port, server_sap=1, **settings):
    return gurux_client.connect(
        "127.0.0.1", port, client_sap=1, server_sap=server_sap, title=next(titles), **settings
    )


def test_a_head_end_changes_keys_and_policy_over_a_restart(tmp_path):
    """Key transfer and activation by Gurux; the changes hold at once and after a restart, and stand in the log."""
    config = tmp_path / "site.toml"
    ports = free_ports(3)
    options = [f"--{name}=127.0.0.1:{port}" for name, port in zip(("mms", "dlms", "web"), ports, strict=True)]
    made = flexmap("demo", "--source", "model", "--meters", 1, "--write-config", config, *options)
    assert made.returncode == 0, made.stderr
    text = config.read_text()
    config.write_text(text.replace('protection = "authenticated-encrypted"', 'protection = "authenticated"'))
    first = secrets.read(tmp_path / "site.secrets.toml")["management"]
    old = tuple(bytes.fromhex(key) for key in (first.encryption_key, first.authentication_key))
    new = (b"n" * 16, b"m" * 16)
    mms, dlms, web = ports

    with serving(tmp_path, config, ports):
        with manager(dlms, keys=old) as meter:
            meter.transfer_keys(bytes.fromhex(first.master_key), [(0, new[0]), (2, new[1])])
            meter.end()
        assert refused(dlms, old)
        with manager(dlms, keys=new) as meter:
            meter.activate(0b00001100)
            meter.end()
        with pytest.raises(RemoteFailure), manager(dlms, keys=new, security=AUTHENTICATED):
            pass
        assert refused(dlms, (b"x" * 16, b"y" * 16))
    kept = secrets.read(tmp_path / "site.secrets.toml")["management"]
    assert (kept.encryption_key, kept.authentication_key) == (new[0].hex(), new[1].hex())
    assert (tmp_path / "site.secrets.toml").stat().st_mode & 0o777 == 0o600

    with serving(tmp_path, config, ports):
        assert refused(dlms, old)
        with pytest.raises(RemoteFailure), manager(dlms, keys=new, security=AUTHENTICATED):
            pass
        with manager(dlms, keys=new) as meter:
            codes = [code for _, code in meter.get(7, "0.0.99.98.9.255", 2)]
            assert {48, 49} <= set(codes)
            assert meter.get(7, "0.0.99.98.9.255", 7) == len(codes)
            assert meter.get(1, "0.0.96.11.9.255", 2) == 49
            meter.close()
        log = (tmp_path / "gateway.log").read_text()
        assert not any(key.hex() in log.lower() for key in (*old, *new))
    assert mms
    assert web


def refused(port, keys):
    try:
        manager(port, keys=keys).end()
    except RemoteFailure:
        return True
    return False


@contextlib.contextmanager
def serving(tmp_path, config, ports):
    running = Gateway(tmp_path, "serve", config, ports=ports, command="serve")
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if running.health()["healthy"]:
                    break
            assert running.process.poll() is None, running.text()
            time.sleep(0.2)
        yield running
        assert running.stop() == 0
    finally:
        running.close()
