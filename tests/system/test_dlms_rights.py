"""What the object list says a client may do is what it may do: all of it tried by Gurux's client.

The table is printed, a line for each client and device.
"""

import json
from itertools import count

import gurux_client
import pytest
from gateway_harness import GAK, GUEK, MANAGER_GAK, MANAGER_GUEK, flexmap, gateway

CLIENTS = {
    "public": {"client_sap": 16},
    "reader-lls": {"client_sap": 18, "secret": b"flexmap-demo"},
    "reader": {"client_sap": 2, "keys": (GUEK, GAK)},
    "management": {"client_sap": 1, "keys": (MANAGER_GUEK, MANAGER_GAK)},
}
DEVICES = {"management": 1, "three-phase": 1000, "single-phase": 1001}
NAMES = {"management": "management", "three-phase": "SUB1", "single-phase": "SM0001"}
ACCESS = {"public": "public", "reader-lls": "read", "reader": "read", "management": "manage"}
TEMPORARY_FAILURE, DENIED, TYPE_UNMATCHED, OTHER_REASON = 2, 3, 12, 250
LET_THROUGH = {
    "get": {0, TEMPORARY_FAILURE},
    "set": {0, TEMPORARY_FAILURE, TYPE_UNMATCHED, OTHER_REASON},
    "act": {0, TEMPORARY_FAILURE, TYPE_UNMATCHED, OTHER_REASON},
}
"""Results where there is the right: of values that are not known yet, and of what is tried, which suits few."""
OBJECT_LIST = (15, "0.0.40.0.0.255", 2)
REPLY_TO_HLS = ("act", 15, "0.0.40.0.0.255", 1)
"""Part of opening the association: no right, and of no use later."""

titles = (b"RIG" + number.to_bytes(5, "big") for number in count(1))


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    with gateway(tmp_path_factory.mktemp("demo"), meters=1) as running:
        yield running


def associate(demo, client, device):
    settings = dict(CLIENTS[client])
    if "keys" in settings:
        settings["title"] = next(titles)
    return gurux_client.connect("127.0.0.1", demo.dlms, server_sap=DEVICES[device], **settings)


def listed(meter):
    """Rights by service, class, logical name, and attribute or method."""
    rights = {}
    for class_id, _, octets, (attributes, methods) in meter.get(*OBJECT_LIST):
        name = ".".join(map(str, octets))
        for index, mode, *_ in attributes:
            rights["get", class_id, name, index] = bool(mode & 1)
            rights["set", class_id, name, index] = bool(mode & 2)
        for index, mode in methods:
            rights["act", class_id, name, index] = bool(mode)
    return rights


def to_try(rights):
    objects = {}
    for kind, class_id, name, index in rights:
        attributes, methods = objects.setdefault((class_id, name), ([], []))
        if kind == "get":
            attributes.append(index)
        elif kind == "act":
            methods.append(index)
    return [(*key, *indexes) for key, indexes in objects.items()]


def told(demo, device):
    """Rights by access and key, as `flexmap dlms objects` prints them."""
    printed = flexmap("dlms", "objects", NAMES[device], "--config", demo.config, "--json")
    rights = {access: {} for access in ACCESS.values()}
    for each in json.loads(printed.stdout):
        name = each["obis"].replace("-", ".").replace(":", ".")
        for access, of in rights.items():
            for item in each["attributes"]:
                of["get", each["class_id"], name, item["index"]] = "r" in item["access"][access]
                of["set", each["class_id"], name, item["index"]] = "w" in item["access"][access]
            for item in each["methods"]:
                of["act", each["class_id"], name, item["index"]] = "x" in item["access"][access]
    return rights


def row(client, device, results):
    """One line of the table: of each service how many were carried out, could not be, were refused."""
    cells = []
    for kind in ("get", "set", "act"):
        found = [result for (service, *_), result in results.items() if service == kind]
        done, denied = found.count(0), found.count(DENIED)
        cells.append(f"{kind} {done:4} done {len(found) - done - denied:3} unfit {denied:4} refused")
    return f"{client:11} {device:13} " + "   ".join(cells)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("client", CLIENTS)
def test_rights_are_as_listed(demo, client, device, capsys):
    printed = told(demo, device)
    everything = to_try(printed["manage"])
    with associate(demo, client, device) as meter:
        rights = listed(meter)
        results = meter.try_all(everything)
        meter.close()
    with capsys.disabled():
        print(f"\n{row(client, device, results)}", end="")
    assert results.pop(REPLY_TO_HLS) == DENIED
    wrong = {
        key: (rights.get(key, False), result)
        for key, result in results.items()
        if (result not in LET_THROUGH[key[0]] if rights.get(key, False) else result != DENIED)
    }
    assert not wrong
    # What the association tells is what the command line prints.
    expected = {key for key, right in printed[ACCESS[client]].items() if right}
    assert {key for key, right in rights.items() if right} == expected
    unknown = [key for key, result in results.items() if key[0] == "get" and result == TEMPORARY_FAILURE]
    assert len(unknown) < len(results) / 10, unknown
    kinds = [kind for (kind, *_), right in rights.items() if right]
    assert len(results) > (30 if device == "management" else 200)
    assert kinds.count("get") > (10 if client == "public" else 20)
    assert ("set" in kinds) is (client == "management" and device != "management")
    assert (kinds.count("act") > (8 if client == "management" else 1)) is (client == "management")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("client", CLIENTS)
def test_gurux_takes_in_every_attribute_that_it_may_read(demo, client, device, capsys):
    with associate(demo, client, device) as meter:
        read = meter.read_all()
        meter.close()
    failed = {key: error for key, error in read.items() if error and error != f"error {TEMPORARY_FAILURE}"}
    later = [key for key, error in read.items() if error == f"error {TEMPORARY_FAILURE}"]
    with capsys.disabled():
        print(f"\n{client:11} {device:13} {len(read) - len(later) - len(failed):4} attributes of", end=" ")
        print(f"{len({key[:2] for key in read}):3} objects taken in, {len(later)} not known yet", end="")
    assert not failed
    assert len(later) < max(len(read) / 5, 1)
    assert len(read) > 10
