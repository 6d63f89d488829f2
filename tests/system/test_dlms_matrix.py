"""The matrix of foreign clients: mechanism × suite × protection × referencing × transport, each cell a real line.

In every cell the client associates, reads, writes what it may, and releases. The usual run takes each mechanism
over each transport with both kinds of names, and goes round the suites and protections; the whole matrix:
``FLEXMAP_MATRIX=all tools/test -s -n 0 tests/system/test_dlms_matrix.py``.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from itertools import count, cycle, product
from pathlib import Path

import cosem_client
import gurux_client
import pytest
from dlms_secure import SECRET, keys_of, private_of, public_of, sap_of
from dlms_toy import SAP
from remote import Remote, RemoteFailure

from flexmap.dlms.acse import Mechanism
from flexmap.dlms.security import AUTHENTICATED, AUTHENTICATED_ENCRYPTED, ENCRYPTED

CLIENTS = Path(gurux_client.__file__).parent
SERIAL, NOTE, ENERGY = "0.0.96.1.0.255", "0.0.96.13.0.255", "1.0.1.8.0.255"
TRANSPORTS = ("wrapper TCP", "wrapper UDP", "HDLC TCP", "HDLC serial", "mode E")
PROTECTIONS = {"none": 0, "auth": AUTHENTICATED, "enc": ENCRYPTED, "auth+enc": AUTHENTICATED_ENCRYPTED}
SUITES = (0, 1, 2)
WHOLE = os.environ.get("FLEXMAP_MATRIX") == "all"
COSEM_HAS = (Mechanism.NONE, Mechanism.LLS, Mechanism.HLS, Mechanism.HLS_GMAC)
WHY = {
    "ValueError": "Gurux's ECDSA asks for P-256 twice, and so does not know P-384",
    "GXDLMSException": "encryption alone proves nothing: the server refuses it, whoever asks",
    "AssertionError": "Gurux cannot cipher requests by short names: it asserts that nothing is there to cipher",
    "Exception": "with short names Gurux answers by WRITE, whose response cannot bring what it waits for",
    "NameError": "GMAC of dlms-cosem needs keys, and the error that says so is not imported",
}
titles = (b"MAT" + number.to_bytes(5, "big") for number in count(1))


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """Where each transport is."""
    folder = tmp_path_factory.mktemp("lines")
    process = subprocess.Popen(
        [sys.executable, str(CLIENTS / "dlms_matrix_server.py"), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        places = (*json.loads(process.stdout.readline()), str(folder / "direct"), str(folder / "optical"))
        yield dict(zip(("HDLC TCP", "wrapper TCP", "wrapper UDP", "HDLC serial", "mode E"), places, strict=True))
        assert process.poll() is None, "the server died"
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@pytest.fixture(scope="module")
def sessions(lines):
    """One process of each library for each kind of line."""
    public = {"client_sap": sap_of(Mechanism.NONE, 0), "server_sap": SAP}
    with (
        gurux_client.connect("127.0.0.1", lines["wrapper TCP"], **public) as gurux,
        Remote("gurux_hdlc_session.py", lines["HDLC TCP"], **public) as gurux_hdlc,
        cosem_client.connect("127.0.0.1", lines["wrapper TCP"], **public) as cosem,
        Remote("cosem_hdlc_session.py", lines["HDLC TCP"], **public) as cosem_hdlc,
    ):
        made = {
            ("gurux", False): gurux,
            ("gurux", True): gurux_hdlc,
            ("cosem", False): cosem,
            ("cosem", True): cosem_hdlc,
        }
        for each in made.values():
            each.close()
        yield made


def attempt(meter, line, transport, mechanism, settings):
    """Associate, use and release; the outcome is "ok" or the name of what the library raised."""
    try:
        if transport.startswith("wrapper"):
            udp = {"udp": True} if transport == "wrapper UDP" else {}
            meter.again("127.0.0.1", line, **udp, **settings)
        else:
            mode_e = {"mode_e": "listen"} if transport == "mode E" else {}
            meter.anew(line, **mode_e, **settings)
        assert bytes(meter.get(1, SERIAL, 2)) == b"FLX%08d" % SAP
        if mechanism != Mechanism.NONE:
            note = b"written by " + mechanism.name.encode()
            meter.set(1, NOTE, 2, note)
            assert bytes(meter.get(1, NOTE, 2)) == note
            assert meter.get(3, ENERGY, 2) == 123456
        meter.close()
    except RemoteFailure as failure:
        with suppress(RemoteFailure):  # an optical port goes back to 300 bit/s
            if not transport.startswith("wrapper"):
                meter.disconnect()
        return str(failure).partition(":")[0].split(".")[-1]
    return "ok"


def gurux_settings(mechanism, suite, protection, names):
    signing = (private_of("client signing", suite), public_of("server signing", suite)) if suite else None
    keys = keys_of(suite)
    return {
        "client_sap": sap_of(mechanism, suite),
        "server_sap": SAP,
        "mechanism": int(mechanism),
        "secret": None if mechanism in (Mechanism.NONE, Mechanism.HLS_GMAC, Mechanism.HLS_ECDSA) else SECRET,
        "keys": (keys.guek, keys.gak),
        "title": next(titles),
        "suite": suite,
        "security": PROTECTIONS[protection],
        "signing": signing if mechanism == Mechanism.HLS_ECDSA else None,
        "short_names": names == "SN",
    }


def cosem_settings(mechanism, suite, protection):
    keys = keys_of(suite)
    return {
        "client_sap": sap_of(mechanism, suite),
        "server_sap": SAP,
        "mechanism": int(mechanism),
        "secret": SECRET if mechanism in (Mechanism.LLS, Mechanism.HLS) else None,
        "title": next(titles),
        "suite": suite,
        "keys": (keys.guek, keys.gak) if protection == "auth+enc" else None,
    }


def cells(mechanisms, protections, columns):
    """All cells, or each mechanism and column with the next suite and protection."""
    if WHOLE:
        yield from product(mechanisms, SUITES, protections, columns)
        return
    rounds = {names: cycle(product(SUITES, protections)) for names in ("LN", "SN")}
    for mechanism, column in product(mechanisms, columns):
        yield mechanism, *next(rounds["SN" if column.endswith("SN") else "LN"]), column


def table(title, columns, found):
    """Print the outcomes: a row for each mechanism, suite and protection; ``-``: not in this run."""
    width = max(map(len, columns)) + 2
    print(f"\n{title}\n{'mechanism':<12} suite protection  " + "".join(f"{column:<{width}}" for column in columns))
    for mechanism, suite, protection in dict.fromkeys(key[:3] for key in found):
        row = [found.get((mechanism, suite, protection, column), "-") for column in columns]
        print(f"{mechanism.name:<12} {suite:>5} {protection:<11} " + "".join(f"{each:<{width}}" for each in row))
    for outcome, times in Counter(found.values()).items():
        print(f"{outcome}: {times}" + (f" ({WHY[outcome]})" if outcome in WHY else ""))


def gurux_can(mechanism, suite, protection, names):
    """What must come out, by what the library can."""
    if protection == "enc":
        return "GXDLMSException"
    if (mechanism, suite) == (Mechanism.HLS_ECDSA, 2):
        return "ValueError"
    if names == "SN" and protection != "none":
        return "AssertionError"
    return "Exception" if names == "SN" and mechanism not in (Mechanism.NONE, Mechanism.LLS) else "ok"


def test_gurux(lines, sessions):
    columns = [f"{transport} {names}" for transport, names in product(TRANSPORTS, ("LN", "SN"))]
    found, expected = {}, {}
    for mechanism, suite, protection, column in cells(Mechanism, PROTECTIONS, columns):
        if (mechanism, suite) == (Mechanism.HLS_ECDSA, 0):
            continue
        transport, names = column.rsplit(" ", 1)
        meter = sessions["gurux", not transport.startswith("wrapper")]
        key = (mechanism, suite, protection, column)
        settings = gurux_settings(mechanism, suite, protection, names)
        found[key] = attempt(meter, lines[transport], transport, mechanism, settings)
        expected[key] = gurux_can(mechanism, suite, protection, names)
    table("gurux-dlms 1.0.203", columns, found)
    assert found == expected


def test_cosem(lines, sessions):
    columns = [transport for transport in TRANSPORTS if transport not in ("wrapper UDP", "mode E")]
    found, expected = {}, {}
    for mechanism, suite, protection, transport in cells(COSEM_HAS, ("none", "auth+enc"), columns):
        meter = sessions["cosem", not transport.startswith("wrapper")]
        key = (mechanism, suite, protection, transport)
        settings = cosem_settings(mechanism, suite, protection)
        found[key] = attempt(meter, lines[transport], transport, mechanism, settings)
        expected[key] = "NameError" if (mechanism, protection) == (Mechanism.HLS_GMAC, "none") else "ok"
    table("dlms-cosem 25.1.0 (logical names; no UDP, no mode E)", columns, found)
    assert found == expected
