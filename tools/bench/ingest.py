"""From a sample's own time to readable on both faces, and what N meters at 1 Hz cost.

    python tools/bench/ingest.py [--meters 99] [--seconds 120]

Starts the demo with N meters (the substation meter is one of them), polls the last meter over DLMS and over MMS as
fast as it is answered, and notes for each second when its sample can first be read. The delay holds the poll's own
round trip. Processor time is that of the core and of the MMS worker, as a share of one processor. A bare loop on
the same machine that wakes on the second shows how late the machine itself is.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from flexmap.dlms import classes, cosem_time
from flexmap.faces.dlms.client import Credentials, DlmsConnection
from flexmap.faces.mms_client import MmsClient
from flexmap.gateway.demo import SUBSTATION_SAP

READER = Credentials(18, 1, b"flexmap-demo")


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def processor_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watch(threading.Thread):
    """Calls ``sample_time`` (ms) again and again; notes how late each new second is seen."""

    def __init__(self, sample_time):
        super().__init__(daemon=True)
        self.delays = []
        self.polls = 0
        self.stop = threading.Event()
        self._sample_time = sample_time

    def run(self):
        last = self._sample_time()
        while not self.stop.is_set():
            shown = self._sample_time()
            now = time.time() * 1000
            self.polls += 1
            if shown != last:
                self.delays.append(now - shown)
                last = shown
            time.sleep(0.001)

    def figures(self):
        return {
            "seconds_seen": len(self.delays),
            "polls": self.polls,
            "p50_ms": round(quantile(self.delays, 0.5), 1),
            "p99_ms": round(quantile(self.delays, 0.99), 1),
            "max_ms": round(max(self.delays), 1),
        }


def machine_time():
    """Wake on the second, as a source does."""
    wait = 1 - time.time() % 1
    time.sleep(wait)
    return int(time.time()) * 1000


def start(folder, meters):
    holders = [socket.socket() for _ in range(3)]
    for holder in holders:
        holder.bind(("127.0.0.1", 0))
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    flags = [f"--{name}=127.0.0.1:{port}" for name, port in zip(("mms", "dlms", "web"), ports, strict=True)]
    flexmap = Path(sys.executable).with_name("flexmap")
    process = subprocess.Popen(
        [flexmap, "demo", "--source=model", f"--meters={meters - 1}", f"--state={folder}", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    for line in process.stdout:
        if "Ctrl-C" in line:
            return process, ports
    raise SystemExit("the demo does not serve")


def worker_of(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return next(int(c) for c in children if b"libiec61850" in Path(f"/proc/{c}/cmdline").read_bytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--meters", type=int, default=99)
    parser.add_argument("--seconds", type=int, default=120)
    options = parser.parse_args()
    sap = SUBSTATION_SAP + options.meters - 1
    voltage = bytes((1, 0, 32, 7, 0, 255))
    with tempfile.TemporaryDirectory() as folder:
        process, (mms, dlms, _) = start(folder, options.meters)
        try:
            time.sleep(5)
            pids = {"core": process.pid, "mms worker": worker_of(process.pid)}
            idle = {name: processor_seconds(pid) for name, pid in pids.items()}
            time.sleep(20)
            cost = {name: (processor_seconds(pid) - idle[name]) / 20 for name, pid in pids.items()}
            with (
                DlmsConnection("127.0.0.1", dlms, READER) as connection,
                MmsClient.open("127.0.0.1", mms) as client,
            ):
                reference = f"FLEXGWSM{options.meters - 1:04d}/MMXN1.Vol"
                watches = {
                    "dlms": Watch(
                        lambda: cosem_time.to_epoch_ms(connection.get(sap, classes.EXTENDED_REGISTER, voltage, 5))
                    ),
                    "mms": Watch(lambda: client.read([reference])[0].time),
                    "machine": Watch(machine_time),
                }
                for watch in watches.values():
                    watch.start()
                time.sleep(options.seconds)
                for watch in watches.values():
                    watch.stop.set()
                for watch in watches.values():
                    watch.join(5)
        finally:
            process.terminate()
            process.wait(15)
    report = {
        "meters": options.meters,
        "processor_share_not_polled": {name: f"{100 * share:.1f} %" for name, share in cost.items()},
        **{name: watch.figures() for name, watch in watches.items()},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
