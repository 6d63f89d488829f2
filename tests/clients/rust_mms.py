"""The Rust MMS client (PyPI iec61850) as a process: JSON requests on stdin, JSON answers on stdout.

A process of its own, because the extension crashes at the interpreter's exit; it ends by os._exit.
"""

import asyncio
import json
import os
import sys

from iec61850 import FC, IedConnection, OriginValue
from iec61850._enums import ControlModel
from iec61850._facade import RcbWriteMask


def plain(value):
    """bytes as hex, dataclasses and sequences as JSON has them."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


class Session:
    def __init__(self, connection):
        self.connection = connection
        self.native = connection._native_conn
        self.reports = []
        self.controls = {}
        self.rcbs = {}

    async def directory(self):
        return await self.native.get_server_directory()

    async def nodes(self, device):
        return await self.native.get_logical_device_directory(device)

    async def read(self, ref, fc):
        return plain(await self.native.read_object(ref, FC(fc).value))

    async def write(self, ref, fc, value):
        await self.native.write_object(ref, fc, value)

    async def dataset(self, ref):
        members = (await self.native.get_data_set_directory(ref))["members"]
        return [[m["object_ref"], m["fc"]] for m in members], plain(await self.native.get_data_set_values(ref))

    async def rcb(self, ref):
        handle = self.rcbs[ref] = await self.connection.get_rcb_values(ref)
        names = [
            "is_buffered",
            "rpt_id",
            "rpt_ena",
            "dataset",
            "buf_time_ms",
            "integrity_period_ms",
            "conf_rev",
            "entry_id",
            "sq_num",
        ]
        return {name: plain(getattr(handle, name)) for name in names} | {
            "trigger_options": handle._native.trg_ops_bits,
            "opt_flds": handle._native.opt_flds_bits,
        }

    async def enable(self, ref, **settings):
        """Subscribe and set attributes of a report control block, RptEna last."""
        handle = await self.connection.get_rcb_values(ref)
        await self.native.install_report_handler(ref, handle.rpt_id, lambda r: self.reports.append(plain(r)))
        bits = {"trigger_options": "trg_ops_bits", "opt_flds": "opt_flds_bits"}
        for name, value in settings.items():
            if name == "entry_id":
                # The client (0.14.0) itself writes to "EntryId", which IEC 61850-8-1 names "EntryID".
                await self.native.write_octet_string(
                    f"{ref.replace('.BR.', '.')}.EntryID", "BR", bytes.fromhex(value)
                )
                continue
            if name in bits:
                setattr(handle._native, bits[name], value)
            else:
                attribute = {"integrity_period": "integrity_period_ms", "buf_time": "buf_time_ms"}.get(name, name)
                setattr(handle, attribute, value)
            await self.connection.set_rcb_values(handle, RcbWriteMask.fields(name))
        handle.rpt_ena = True
        await self.connection.set_rcb_values(handle, RcbWriteMask.fields("rpt_ena"))

    async def disable(self, ref):
        handle = await self.connection.get_rcb_values(ref)
        handle.rpt_ena = False
        await self.connection.set_rcb_values(handle, RcbWriteMask.fields("rpt_ena"))

    async def gi(self, ref):
        await self.native.trigger_gi(ref)

    async def poll(self, milliseconds):
        """Return the reports that came until then."""
        end = asyncio.get_running_loop().time() + milliseconds / 1000
        while asyncio.get_running_loop().time() < end:
            await self.native.poll_reports(50)
            await asyncio.sleep(0.01)
        reports, self.reports = self.reports, []
        return reports

    async def control(self, ref, model, action, value=None, test=False):
        """Select, select_with_value, operate or cancel; the control object of a reference is kept."""
        if ref not in self.controls:
            self.controls[ref] = self.connection.create_control_object(ref, ControlModel(model))
            self.controls[ref].set_origin(OriginValue(or_cat=3, or_ident=b"test"))
        client = self.controls[ref]
        client.set_test(test)
        if action == "select":
            return {"success": bool(await client.select())}
        outcome = await getattr(client, action)(value)
        return {"success": outcome.success, "cause": outcome.add_cause}


async def main(host, port):
    loop = asyncio.get_running_loop()
    session = Session(await IedConnection.connect(f"{host}:{port}"))
    print(json.dumps({"result": "connected"}), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        request = json.loads(line)
        try:
            answer = {"result": await getattr(session, request.pop("op"))(**request)}
        except Exception as error:  # noqa: BLE001 - whatever it is, the test gets to see it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


try:
    asyncio.run(main(*sys.argv[1:]))
except BaseException as error:  # noqa: BLE001 - whatever it is, the test gets to see it
    print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
os._exit(0)
