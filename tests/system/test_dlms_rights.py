"""What the object list says a client may do is what it may do: all of it tried by Gurux's client."""

from itertools import count

import gurux_client
import pytest
from gateway_harness import GAK, GUEK, MANAGER_GAK, MANAGER_GUEK, gateway

CLIENTS = {
    "public": {"client_sap": 16},
    "reader-lls": {"client_sap": 18, "secret": b"flexmap-demo"},
    "reader": {"client_sap": 2, "keys": (GUEK, GAK)},
    "management": {"client_sap": 1, "keys": (MANAGER_GUEK, MANAGER_GAK)},
}
DEVICES = {"management": 1, "three-phase": 1000, "single-phase": 1001}
TEMPORARY_FAILURE, DENIED, TYPE_UNMATCHED, OTHER_REASON = 2, 3, 12, 250
STRICT = {("set", 7), ("act", 8), ("set", 8), ("act", 9), ("act", 15), ("act", 64), ("set", 22)}
MAXIMA = ("1.0.1.6.0.255", "1.0.2.6.0.255")
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


def also(key):
    """Results of methods and attributes that are let through, and cannot do anything with what is tried.

    And of demands, which are unknown until their first period has ended.
    """
    kind, class_id, name, _ = key
    if kind == "get":
        return (TEMPORARY_FAILURE,) if class_id == 5 or name in MAXIMA else ()
    return (TYPE_UNMATCHED, OTHER_REASON) if (kind, class_id) in STRICT else ()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("client", CLIENTS)
def test_rights_are_as_listed(demo, client, device):
    with associate(demo, "management", device) as manager:
        everything = listed(manager)
        manager.close()
    with associate(demo, client, device) as meter:
        rights = listed(meter)
        results = meter.try_all(to_try(everything))
        meter.close()
    assert results.pop(REPLY_TO_HLS) == DENIED
    wrong = {
        key: (rights.get(key, False), result)
        for key, result in results.items()
        if (result != DENIED) is not rights.get(key, False) or result not in (0, DENIED, *also(key))
    }
    assert not wrong
    kinds = [kind for (kind, *_), right in rights.items() if right]
    assert len(results) > (30 if device == "management" else 200)
    assert kinds.count("get") > (10 if client == "public" else 20)
    # The breaker's methods, those of the clock, reset and capture of two profiles, resets of four demands, capture
    # and script of the billing;
    # of the security: change_HLS_secret and those of the security setups.
    setups = 3 if device == "management" else 1
    expected = (
        (2 + 6 + 4 + 4 + 2 if device != "management" else 0) + 1 + 8 * setups if client == "management" else 0
    )
    assert kinds.count("act") - (client != "public") == expected
