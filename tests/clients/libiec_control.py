"""A command by libiec61850's own client: HOST PORT REFERENCE VALUE; prints the outcome as JSON.

{"select": bool, "operate": bool, "termination": addCause or None, "add_cause": of the last error, "seconds": …}
"""

import ctypes
import json
import os
import sys
import threading
import time
from ctypes import CFUNCTYPE, byref, c_bool, c_char_p, c_int, c_uint64, c_void_p

from flexmap.faces.libiec61850 import ctypes_api


class LastApplError(ctypes.Structure):
    _fields_ = [("ctlNum", c_int), ("error", c_int), ("addCause", c_int)]


Termination = CFUNCTYPE(None, c_void_p, c_void_p)


def main(host, port, reference, value):
    library = ctypes_api.load()
    for name, result, arguments in (
        ("ControlObjectClient_create", c_void_p, (c_char_p, c_void_p)),
        ("ControlObjectClient_getControlModel", c_int, (c_void_p,)),
        ("ControlObjectClient_setOrigin", None, (c_void_p, c_char_p, c_int)),
        ("ControlObjectClient_select", c_bool, (c_void_p,)),
        ("ControlObjectClient_selectWithValue", c_bool, (c_void_p, c_void_p)),
        ("ControlObjectClient_operate", c_bool, (c_void_p, c_void_p, c_uint64)),
        ("ControlObjectClient_getLastApplError", LastApplError, (c_void_p,)),
        ("ControlObjectClient_setCommandTerminationHandler", None, (c_void_p, Termination, c_void_p)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    for _ in range(5):
        connection = library.IedConnection_create()
        error = c_int(0)
        library.IedConnection_connect(connection, byref(error), host.encode(), int(port))
        control = library.ControlObjectClient_create(reference.encode(), connection)
        if not error.value and control:
            break
        time.sleep(0.2)
    terminated = threading.Event()
    causes = []

    @Termination
    def termination(_parameter, client):
        causes.append(library.ControlObjectClient_getLastApplError(client).addCause)
        terminated.set()

    library.ControlObjectClient_setCommandTerminationHandler(control, termination, None)
    library.ControlObjectClient_setOrigin(control, b"test", 3)
    wanted = library.MmsValue_newBoolean(value == "true")
    model = library.ControlObjectClient_getControlModel(control)
    start = time.monotonic()
    select = None
    if model == 2:
        select = library.ControlObjectClient_select(control)
    elif model == 4:
        select = library.ControlObjectClient_selectWithValue(control, wanted)
    operate = None if select is False else library.ControlObjectClient_operate(control, wanted, 0)
    if operate and model >= 3:
        terminated.wait(10)
    print(
        json.dumps(
            {
                "model": model,
                "select": select,
                "operate": operate,
                "termination": causes[0] if causes else None,
                "add_cause": library.ControlObjectClient_getLastApplError(control).addCause,
                "seconds": time.monotonic() - start,
            }
        ),
        flush=True,
    )


main(*sys.argv[1:])
os._exit(0)
