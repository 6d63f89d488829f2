"""Join, agents, back-off, refusal, kick, leave, re-keying and restart, over LBP transport in memory."""

import random

import pytest
from g3_lbp_net import HOP, PAN, PSK, Net, eui

from flexmap.g3 import bootstrap
from flexmap.g3.agent import HOLD
from flexmap.g3.bootstrap import State
from flexmap.g3.coordinator import MOST_WAITING
from flexmap.g3.coordinator import Settings as CoordinatorSettings
from flexmap.g3.interface import Beacon, MacStatus
from flexmap.g3.lbp import Kind, Message, Parameters
from flexmap.g3.pan import LAST_SHORT_ADDRESS, AccessList, Psks, Registered, Registry
from flexmap.g3.rekey import Rekeying
from flexmap.model.error import ConfigurationError, LocalError

STAR = [(0, n, 100) for n in range(1, 4)]
CHAIN = [(0, 1, 100), (1, 2, 100), (2, 3, 100)]


def test_a_device_joins_in_the_time_of_the_facts():
    net = Net(STAR)
    net.start()
    net.run(30)
    assert net.joined() == [1, 2, 3]
    for number, device in net.devices.items():
        assert 13 <= device.joined_at - device.started_at <= 21
        mac = net.nodes[number].mac
        assert mac.pan_id == PAN
        assert mac.keys == net.nodes[0].mac.keys
        assert mac.active == 0
        assert net.coordinator.registry.by_eui64(eui(number)).short_address == mac.short_address
    assert sorted(node.mac.short_address for node in net.nodes.values()) == [0, 1, 2, 3]
    assert net.coordinator.counters.joined == 3


def test_one_exchange_is_six_messages_of_the_known_sizes():
    net = Net([(0, 1, 100)])
    net.start()
    net.run(30)
    up = [message for _, message in net.nodes[1].sent]
    down = [message for _, message in net.nodes[0].sent]
    # JOINING, message 2, message 4; message 1, message 3, ACCEPTED: header 10, EAP-PSK as in RFC 4764.
    assert [len(message) for message in up] == [10, 10 + 62, 10 + 22 + 20 + 2 + 4]
    assert [len(message) for message in down] == [10 + 30, 10 + 22 + 16 + 20 + 2 + 4 + 19 + 3, 10 + 4]
    assert [message[0] for message in up + down] == [0x10] * 3 + [0xA0, 0xA0, 0x90]
    gmk = net.nodes[0].mac.keys[0]
    assert not any(gmk in message for message in up + down)


def test_a_chain_joins_through_agents():
    net = Net(CHAIN)
    net.start()
    net.run(300)
    assert net.joined() == [1, 2, 3]
    assert [net.hops(number) for number in (1, 2, 3)] == [1, 2, 3]
    assert net.devices[1].agent.relayed == 6
    assert net.devices[2].agent.relayed == 6
    assert net.devices[3].agent.relayed == 0


def test_joins_survive_loss():
    net = Net(CHAIN, loss=0.1, seed=5)
    net.start()
    net.run(1800)
    assert net.joined() == [1, 2, 3]


def test_132_devices_at_once_on_three_rings():
    pairs = [(0, n, 90) for n in range(1, 45)]
    pairs += [(n, n + 44, 80) for n in range(1, 45)] + [(n, n + 44, 70) for n in range(45, 89)]
    net = Net(pairs, loss=0.02)
    net.start()
    net.run(3600)
    assert len(net.joined()) == 132
    shorts = {node.mac.short_address for node in net.nodes.values()}
    assert len(shorts) == 133
    assert net.coordinator.counters.postponed > 0


def test_choice_of_the_agent():
    near = Beacon(7, PAN, 110, 14)
    assert bootstrap.path_cost(near) == 18
    assert bootstrap.path_cost(Beacon(0, PAN, 110, 0)) < bootstrap.path_cost(Beacon(0, PAN, 60, 0))
    # A weak direct link costs less than two good hops, more than none at all.
    assert bootstrap.path_cost(Beacon(0, PAN, 54, 0)) < bootstrap.path_cost(near)
    assert bootstrap.path_cost(Beacon(9, PAN, 200, 0x7FFF)) > bootstrap.path_cost(Beacon(3, PAN, 53, 60))


def test_agents_below_the_least_quality_and_of_other_pans_are_not_taken():
    net = Net([(0, 1, 52)])
    net.start()
    net.run(600)
    assert net.joined() == []
    assert net.devices[1].counters.attempts == 0
    net = Net([(0, 1, 100)], devices=bootstrap.Settings(pan_id=0x1234))
    net.start()
    net.run(600)
    assert net.joined() == []


def test_back_off_grows_up_to_its_most():
    rng = random.Random(1)
    windows = [[bootstrap.back_off((1, 5), (20, 100), n, rng) for _ in range(400)] for n in range(8)]
    for n, waits in enumerate(windows):
        low, high = min(2**n, 20), min(5 * 2**n, 100)
        assert low <= min(waits) < low * 1.1 + 0.1 * high
        assert high * 0.9 < max(waits) <= high


class Silent:
    def lbp_message(self, source, message, *, secured):
        pass


def test_a_silent_agent_is_left_alone_and_another_taken():
    net = Net([(0, 1, 60), (1, 2, 200), (0, 2, 56)])
    net.coordinator.start(PAN)
    net.devices[1].start()
    net.run(60)
    net.nodes[1].user = Silent()  # the best agent hears, acknowledges and passes nothing on
    net.devices[2].settings = bootstrap.Settings(failures_per_agent=1, first_lqi=53)
    net.devices[2].start()
    net.run(200)
    assert net.devices[2].state is State.JOINED
    assert net.devices[2].counters.attempts == 2


@pytest.mark.parametrize(
    ("access", "psks", "counter"),
    [
        (AccessList(black={eui(1)}), Psks(PSK), "declined_black"),
        (AccessList(white={eui(2), eui(3)}), Psks(PSK), "declined_white"),
        (AccessList(), Psks(None, {eui(2): PSK, eui(3): PSK}), "declined_no_psk"),
    ],
)
def test_refused_devices_are_told_and_counted(access, psks, counter):
    net = Net(STAR)
    net.coordinator = net.new_coordinator(psks, access)
    net.start()
    net.run(120)
    assert net.joined() == [2, 3]
    assert net.devices[1].counters.declined == net.coordinator.counters.all()[counter] >= 1
    # It goes on asking, ever more rarely.
    assert net.devices[1].counters.attempts <= 4


def test_a_device_with_another_psk_is_refused():
    net = Net(STAR)
    net.devices[1]._psk = bytes(16)
    net.start()
    net.run(60)
    assert net.joined() == [2, 3]
    assert net.coordinator.counters.authentication_failures >= 1
    assert net.devices[1].counters.declined >= 1


def test_a_coordinator_with_another_psk_is_refused():
    """A rogue coordinator cannot make a device take a key: it never proves itself in message 3."""
    net = Net([(0, 1, 100)])
    net.coordinator = net.new_coordinator(Psks(bytes(16)))
    net.start()
    net.run(300)
    assert net.nodes[1].mac.keys == {}
    assert net.joined() == []


def test_kick_ban_and_leave():
    net = Net(STAR)
    net.start()
    net.run(30)
    gone = []
    net.coordinator.on_left = lambda device, reason: gone.append((device.eui64, reason))
    net.coordinator.ban(eui(1))
    net.devices[2].leave()
    net.run(300)
    assert gone == [(eui(1), "kicked"), (eui(2), "left")]
    assert net.devices[1].counters.kicked == 1
    assert net.devices[1].state is State.DISCOVERY
    assert net.devices[2].state is State.IDLE
    assert net.nodes[2].mac.keys == {}
    assert net.joined() == [3]
    net.devices[2].start()
    net.run(60)
    # The addresses of 1 and 2 are spent until the next re-keying: their frame counters live on at neighbours.
    assert net.nodes[2].mac.short_address == 4
    with pytest.raises(LocalError):
        net.coordinator.kick(eui(9))


def test_a_kicked_device_that_may_come_back_does():
    net = Net(STAR)
    net.start()
    net.run(30)
    net.coordinator.kick(eui(1))
    net.run(60)
    assert net.joined() == [1, 2, 3]
    assert net.coordinator.counters.joined == 4


def test_re_keying_the_whole_pan():
    net = Net(CHAIN)
    net.start()
    net.run(300)
    net.coordinator.kick(eui(3))
    net.devices[3].leave()
    reports = []
    new = bytes(range(16))
    Rekeying(net.coordinator, new, reports.append)
    net.run(60)
    assert reports[0].rekeyed == (eui(1), eui(2))
    assert reports[0].lost == ()
    for number in (0, 1, 2):
        assert net.nodes[number].mac.keys == {1: new}
        assert net.nodes[number].mac.active == 1
    assert net.coordinator.registry.spent() == ()
    net.devices[3].start()
    net.run(60)
    assert net.nodes[3].mac.keys == {1: new}
    Rekeying(net.coordinator, bytes(16), reports.append)
    net.run(60)
    assert len(reports[1].rekeyed) == 3
    assert net.nodes[3].mac.keys == {0: bytes(16)}


def test_a_device_that_is_deaf_during_re_keying_is_reported_and_joins_again():
    net = Net(STAR)
    net.start()
    net.run(30)
    address = net.nodes[2].mac.short_address
    net.nodes[2].mac.short_address = 0xFFF0
    reports = []
    Rekeying(net.coordinator, bytes(16), reports.append)
    net.run(200)
    assert reports[0].lost == (eui(2),)
    net.devices[2].rejoin()
    net.run(60)
    assert net.nodes[2].mac.short_address == address
    assert net.nodes[2].mac.keys == {1: bytes(16)}
    assert net.coordinator.counters.rejoined == 1


def test_a_device_that_missed_the_activation_alone_is_called_back():
    """It reads the new key and sends with the old one, which nobody takes: it would never find out."""
    net = Net(STAR)
    net.start()
    net.run(30)
    address, carry = net.nodes[2].mac.short_address, net.carry
    net.carry = lambda node, destination, message, confirm: (
        net.time.callLater(0, confirm, MacStatus.NO_ACK)
        if (destination, message[:1]) == (address, b"\x90") and len(message) == 13
        else carry(node, destination, message, confirm)
    )
    reports = []
    Rekeying(net.coordinator, bytes(16), reports.append)
    net.run(30)
    assert reports[0].lost == (eui(2),)
    net.carry = carry
    net.run(60)
    assert net.devices[2].counters.kicked == 1
    assert net.nodes[2].mac.keys == {1: bytes(16)}
    assert net.nodes[2].mac.short_address == address
    assert len(net.coordinator.registry) == 3


def test_re_keying_an_empty_pan_and_many_that_fail_at_once():
    net = Net(STAR)
    net.start()
    reports = []
    Rekeying(net.coordinator, bytes(16), reports.append)
    assert reports == [type(reports[0])((), ())]
    for n in range(2000):
        net.coordinator.registry.register(Registered(n.to_bytes(8, "big"), 100 + n, 0.0))
    net.coordinator._psks = Psks()
    Rekeying(net.coordinator, bytes(16), reports.append)  # without a PSK each is refused at once
    net.run(2000)
    assert len(reports) == 2
    assert len(reports[1].lost) == 2000


def test_a_restarted_coordinator_goes_on_with_its_pan():
    net = Net(STAR)
    net.start()
    net.run(30)
    kept = net.coordinator.state()
    net.nodes[0].mac.clear()
    again = net.new_coordinator(Psks(PSK))
    again.resume(kept)
    assert again.state() == kept
    left = []
    again.on_left = lambda device, _reason: left.append(device.eui64)
    net.devices[3].leave()
    net.run(10)
    assert left == [eui(3)]


def test_a_device_is_a_member_again_after_a_loss_of_power():
    net = Net(STAR)
    net.start()
    net.run(30)
    mac, device = net.nodes[1].mac, net.devices[1]
    before = (mac.pan_id, mac.short_address, dict(mac.keys), mac.active)
    kept = device.membership()
    mac.clear()
    net.devices[1] = net.nodes[1].user = again = bootstrap.Device(mac, net.nodes[1], net.time, net.random, PSK)
    assert again.membership() is None
    again.resume(kept)
    assert (mac.pan_id, mac.short_address, mac.keys, mac.active) == before
    assert again.membership() == kept
    reports = []
    Rekeying(net.coordinator, bytes(16), reports.append)
    net.run(60)
    assert reports[0].lost == ()


def test_forged_messages_are_ignored_and_counted():
    net = Net(STAR)
    net.start()
    net.run(30)
    device, coordinator = net.devices[1], net.coordinator
    activate = Parameters(activate=0).encode()
    forged = [
        (0, Message(Kind.KICK, eui(1)), False),  # plain
        (2, Message(Kind.KICK, eui(1)), True),  # from a device that holds the group's key
        (0, Message(Kind.ACCEPTED, eui(1), activate), False),
        (0, Message(Kind.JOINING, eui(1)), True),
        (2, Message(Kind.CHALLENGE, eui(9)), True),  # to relay, but not from the coordinator
        (eui(8), Message(Kind.JOINING, eui(9)), False),  # to relay, in the name of another
    ]
    for source, message, secured in forged:
        device.lbp_message(source, message.encode(), secured=secured)
    net.run(30)
    assert device.state is State.JOINED
    assert device.counters.unexpected == len(forged)
    to_coordinator = [
        (2, Message(Kind.LEAVE, eui(1)), True),
        (1, Message(Kind.LEAVE, eui(1)), False),
        (99, Message(Kind.JOINING, eui(9)), True),
        (1, Message(Kind.JOINING, eui(9)), False),
        (eui(8), Message(Kind.JOINING, eui(9)), False),
        (1, Message(Kind.ACCEPTED, eui(1)), True),
    ]
    for source, message, secured in to_coordinator:
        coordinator.lbp_message(source, message.encode(), secured=secured)
    net.run(60)
    assert coordinator.counters.unexpected == len(to_coordinator)
    assert len(coordinator.registry) == 3


def test_fuzz_of_both_sides():
    """20,000 mutated messages of real exchanges: nothing is raised, nobody joins by them."""
    net = Net(CHAIN)
    net.start()
    net.run(300)
    real = [message for node in net.nodes.values() for _, message in node.sent]
    rng = random.Random(9)
    members = len(net.coordinator.registry)
    for _ in range(20000):
        octets = bytearray(rng.choice(real))
        for _ in range(rng.randrange(1, 4)):
            octets[rng.randrange(len(octets))] = rng.randrange(256)
        message = bytes(octets[: rng.randrange(len(octets) + 1)])
        target = rng.choice(list(net.nodes.values()))
        source = rng.choice((1, 2, message[2:10]))
        target.user.lbp_message(source, message, secured=isinstance(source, int))
    assert net.coordinator.counters.malformed > 1000
    assert sum(device.counters.malformed for device in net.devices.values()) > 1000
    net.run(200)
    assert len(net.coordinator.registry) == members
    assert net.joined() == [1, 2, 3]
    assert net.coordinator._sessions == {}


def test_a_full_pan_declines():
    registry = Registry()
    for n in range(1, 0x8000):
        registry.register(Registered(n.to_bytes(8, "big"), registry.promise(n.to_bytes(8, "big")), 0.0))
    assert registry.promise(b"new meter"[:8]) is None
    registry.remove((5).to_bytes(8, "big"))
    assert registry.promise(b"new meter"[:8]) is None
    registry.release_spent()
    assert registry.promise(b"new meter"[:8]) == 5


def test_sessions_are_limited():
    net = Net([(0, n, 100) for n in range(1, 13)], coordinator=CoordinatorSettings(sessions=1))
    most = 0

    def watch():
        nonlocal most
        most = max(most, len(net.coordinator._sessions))
        net.time.callLater(HOP / 2, watch)

    watch()
    net.start()
    net.run(120)
    assert len(net.joined()) == 12
    assert most == 1


def test_psks_have_a_length():
    with pytest.raises(ConfigurationError):
        Psks(b"short")
    with pytest.raises(ConfigurationError):
        Psks(None, {b"1": PSK})


def test_an_agent_that_cannot_reach_the_coordinator_holds_off():
    net = Net(CHAIN)
    net.start()
    net.run(60)
    agent, node = net.devices[1], net.nodes[1]
    net.nodes[0].mac.short_address = 0xFFF0  # the coordinator is deaf
    joining = Message(Kind.JOINING, eui(9)).encode()
    before = len(node.sent)
    for _ in range(5):
        agent.lbp_message(eui(9), joining, secured=False)
        net.run(1)
    assert len(node.sent) == before + 1
    net.run(1.5 * HOLD)
    agent.lbp_message(eui(9), joining, secured=False)
    assert len(node.sent) == before + 2


@pytest.mark.parametrize("via_agent", [False, True])
def test_forged_joinings_do_not_stop_an_exchange(via_agent):
    """Plain JOININGs in the name of a device, one in each message's time: it joins as if there were none."""
    net = Net([(0, 1, 100), (0, 2, 100), (1, 2, 100)])
    net.coordinator.start(PAN)
    net.devices[2].start()
    net.run(30)
    net.devices[1].start()
    forged = Message(Kind.JOINING, eui(1)).encode()

    def forge():
        if via_agent:
            net.coordinator.lbp_message(net.nodes[2].mac.short_address, forged, secured=True)
        else:
            net.coordinator.lbp_message(eui(1), forged, secured=False)
        net.time.callLater(HOP, forge)

    net.run(12)
    forge()
    net.run(12)
    assert net.joined() == [1, 2]
    assert net.devices[1].counters.attempts == 1
    assert net.coordinator.counters.authentication_failures == 0


def test_a_device_that_begins_anew_need_not_wait_for_its_old_exchange():
    net = Net([(0, 1, 100), (0, 2, 100), (1, 2, 100)])
    net.coordinator.start(PAN)
    net.devices[2].start()
    net.run(30)
    coordinator = net.coordinator
    coordinator.lbp_message(net.nodes[2].mac.short_address, Message(Kind.JOINING, eui(1)).encode(), secured=True)
    net.devices[1].start()
    net.run(20)
    assert 1 in net.joined()
    assert coordinator._sessions == coordinator._rivals == {}
    net.run(100)
    assert coordinator.counters.timeouts == 0


def test_of_two_exchanges_the_one_that_fails_leaves_the_other():
    net = Net([(0, 1, 100)])
    coordinator = net.coordinator
    coordinator.start(PAN)
    coordinator._joining(eui(1), 7)
    coordinator._joining(eui(1), 8)
    (first,), (second,) = coordinator._sessions.values(), coordinator._rivals.values()
    coordinator._end(first, success=False)
    assert (list(coordinator._sessions.values()), coordinator._rivals) == ([second], {})
    coordinator._joining(eui(1), 9)
    coordinator._forget(eui(1), "removed")
    assert coordinator._sessions == coordinator._rivals == {}


def test_a_flood_of_joinings_uses_up_neither_the_short_addresses_nor_the_memory():
    """A JOINING is plain: whoever is on the line can send one of any EUI-64, and has nothing to prove yet."""
    net = Net([(0, 1, 100)])
    net.coordinator.start(PAN)
    for number in range(LAST_SHORT_ADDRESS + 100):
        forged = eui(100_000 + number)
        net.coordinator.lbp_message(forged, Message(Kind.JOINING, forged).encode(), secured=False)
    assert len(net.coordinator._waiting) == MOST_WAITING
    net.run(200)
    net.devices[1].start()
    net.run(60)
    assert net.joined() == [1]


def test_promises_are_kept_for_those_who_began_last():
    registry = Registry()
    first = [registry.promise(eui(number)) for number in range(3)]
    for number in range(3, LAST_SHORT_ADDRESS + 100):
        assert registry.promise(eui(number)) is not None
        assert registry.promise(eui(1)) == first[1]
