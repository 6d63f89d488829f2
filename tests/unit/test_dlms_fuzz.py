"""Hostile input: no exception but WrapperError, no hang, flat memory; every port and side: test_dlms_storms.py."""

import contextlib
import gc
import random
import time
import tracemalloc

from dlms_mutants import LLS, get, mutate, seeds, short_name_seeds
from dlms_toy import CLIENT_TITLE, ENERGY, KEYS, SAP, toy_server
from hypothesis import given, settings
from hypothesis import strategies as st

from flexmap.dlms import axdr, wrapper
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.client import Client, ClientSettings, drive
from flexmap.dlms.profile import Limits
from flexmap.dlms.security import AUTHENTICATED_ENCRYPTED, Ciphering, MemoryCounterStore
from flexmap.model.error import FlexmapError


def storm(server, connection, chance, count, *, clients=(3, 16, 1), samples=None):
    samples = samples or seeds()
    begin = samples[0]
    slowest = 0.0
    replies = 0
    for number in range(count):
        client = chance.choice(clients)
        if number % 10 == 0:
            connection.receive(wrapper.encode(client, SAP, begin))
        frame = wrapper.encode(client, SAP, mutate(chance, chance.choice(samples)))
        line = connection
        if chance.random() < 0.05:  # a broken header puts the stream out of step: on a connection of its own
            frame = mutate(chance, frame)
            line = server.connection(lambda _: None)
        start = time.process_time()
        with contextlib.suppress(wrapper.WrapperError):
            replies += bool(line.receive(frame))
        slowest = max(slowest, time.process_time() - start)
        if line is not connection:
            line.close()
    return slowest, replies


def test_mutated_requests_of_every_service():
    server, device = toy_server(limits=Limits(max_long_value=4096))
    device.breaker_later = True
    for seed, samples in enumerate((seeds(), short_name_seeds())):
        connection = server.connection(lambda _: None)
        slowest, replies = storm(server, connection, random.Random(seed), 2000, clients=(3,), samples=samples)
        assert replies > 1200
        assert slowest < 0.5
        connection.close()


def test_mutated_frames_neither_stop_the_server_nor_fill_its_memory():
    server, device = toy_server(limits=Limits(max_long_value=4096))
    device.breaker_later = True
    chance = random.Random(20260101)
    connection = server.connection(lambda _: None)
    storm(server, connection, chance, 500)
    gc.collect()
    tracemalloc.start()
    device.pending.clear()
    before = tracemalloc.get_traced_memory()[0]
    slowest, replies = storm(server, connection, chance, 2000)
    device.pending.clear()
    gc.collect()  # what refers to itself is not held
    grown = tracemalloc.get_traced_memory()[0] - before
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert replies > 1200
    assert slowest < 0.5
    assert grown < 100_000
    assert peak < 2_000_000
    # and it still serves
    fresh = server.connection(lambda _: None)
    fresh.receive(wrapper.encode(3, SAP, LLS))
    assert fresh.receive(wrapper.encode(3, SAP, get(3, ENERGY, 2)))[8:].hex() == "c401c1000600" + "01e240"


def test_mutated_requests_inside_valid_ciphering():
    server, _ = toy_server(limits=Limits(max_long_value=4096))
    ciphering = Ciphering(KEYS, CLIENT_TITLE, MemoryCounterStore())
    settings_ = ClientSettings(
        client_sap=1, server_sap=SAP, mechanism=Mechanism.HLS_GMAC, protection=AUTHENTICATED_ENCRYPTED, max_pdu=300
    )
    connection = server.connection(lambda _: None)

    def transceive(apdu):
        return connection.receive(wrapper.encode(1, SAP, apdu))[8:]

    client = Client(settings_, random=random.Random(1).randbytes, ciphering=ciphering)
    drive(client.connect(), transceive)
    chance = random.Random(2)
    glo = {0xC0: b"\xc8", 0xC1: b"\xc9", 0xC3: b"\xcb"}
    samples = [seed for seed in seeds() if seed[0] in glo]
    for _ in range(2000):
        seed = chance.choice(samples)
        body = ciphering.protect(AUTHENTICATED_ENCRYPTED, mutate(chance, seed))
        reply = transceive(glo[seed[0]] + axdr.encode_length(len(body)) + body)
        assert len(reply) <= 300
    assert drive(client.get(3, ENERGY, 2), transceive) == 123456


@given(st.lists(st.binary(max_size=120), max_size=5))
@settings(max_examples=150, deadline=None)
def test_any_stream(chunks):
    server, _ = toy_server()
    connection = server.connection(lambda _: None)
    try:
        for chunk in chunks:
            connection.receive(chunk)
    except wrapper.WrapperError:
        pass


@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_apdu_before_and_after_the_association(apdu):
    server, _ = toy_server()
    connection = server.connection(lambda _: None)
    frame = wrapper.encode(3, SAP, apdu)
    connection.receive(frame)
    connection.receive(wrapper.encode(3, SAP, LLS))
    reply = connection.receive(frame)
    if apdu and apdu[0] not in (0xC1, 0xC3):
        assert reply


@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_the_client_survives_any_answer(answer):
    client = Client(ClientSettings(client_sap=16, server_sap=SAP), random=random.Random(1).randbytes)
    for operation in (client.connect(), client.get(3, ENERGY, 2), client.get_with_list([]), client.release()):
        answers = iter((answer, answer))
        with contextlib.suppress(FlexmapError):
            drive(operation, lambda _, answers=answers: next(answers, b""))
