"""A small image on the demo's own way, in real time; the new version stands on both faces, whatever is killed."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time

from gateway_harness import MANAGER_GAK, MANAGER_GUEK, gateway
from mms_harness import until
from remote import Remote

from flexmap.faces.mms_client import MmsClient
from flexmap.model import RemoteError

IMAGE = random.Random(11).randbytes(2500)
SUCCESS, TEMPORARY_FAILURE = 0, 2
VERIFIED, ACTIVE = 3, 6


def revision(port):
    try:
        with MmsClient.open("127.0.0.1", port) as client:
            return client.read(["FLEXGWSM0001/LPHD1.PhyNam.swRev"])
    except RemoteError as error:
        return str(error)


def test_the_new_version_stands_on_both_faces(tmp_path):
    with gateway(tmp_path, meters=1, source="concentrator") as demo:
        demo.wait_read(120)
        settings = {
            "client_sap": 1, "server_sap": 1001, "keys": (MANAGER_GUEK, MANAGER_GAK), "title": b"IMG00001",
            "counter": int(time.time()),
        }  # fmt: skip
        with Remote("gurux_images.py", "127.0.0.1", demo.dlms, **settings) as session:
            before = bytes(session.get(1, "0.0.0.2.0.255", 2)).decode()
            assert before in str(revision(demo.mms))
            name = f"plc/2/{hashlib.sha256(IMAGE).hexdigest()}"
            assert session.initiate(name.encode(), len(IMAGE)) == SUCCESS
            assert session.blocks(IMAGE) == 5
            assert session.verify() == TEMPORARY_FAILURE
            until(lambda: session.read(6) == VERIFIED, 60)
            assert session.activate() == TEMPORARY_FAILURE
            until(lambda: session.read(6) == ACTIVE, 60)
            after = f"{before}+plc.2"
            assert bytes(session.get(1, "0.0.0.2.0.255", 2)).decode() == after
        until(lambda: after in str(revision(demo.mms)), 10)
        os.kill(demo.worker(), signal.SIGKILL)
        until(lambda: after in str(revision(demo.mms)), 30)
