"""LCCH.ChLiv through a minute of its own clock; in a process of its own, as it loads libiec61850."""

import os

import mms_site

from flexmap.faces.libiec61850 import ctypes_api, model, server, values
from flexmap.mapping.quality import age, never_read
from flexmap.scl import served

library = ctypes_api.load()
ied = served.parse(mms_site.CID.read_bytes(), "FMTEST")
built = model.build(library, ied)
running = server.Server(library, built.pointer, ied, lambda: None)
written = values.Values(library, running.pointer, mms_site.SITE, built)
leaves = built.devices["GW"].leaves


def show(step):
    alive, stamp = (
        library.IedServer_getAttributeValue(running.pointer, leaves[f"LCCH1.ChLiv.{name}"].pointer)
        for name in ("stVal", "t")
    )
    print(step, library.MmsValue_getBoolean(alive), library.MmsValue_getUtcTimeInMs(stamp), flush=True)


written.apply(never_read("SM_1", len(mms_site.POINTS)), 0.0)
show("never-read")
written.apply(mms_site.sample(time=5000), 1.0)
show("heard")
written.tick(60.0, 64_000)
show("quiet")
written.apply(age(mms_site.sample(time=5000)), 60.5)
written.tick(62.0, 66_000)
show("silent")
written.apply(mms_site.sample(time=67_000), 63.0)
show("again")
os._exit(0)
