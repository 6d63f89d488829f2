"""Files by libiec61850's own client: HOST PORT; lists, reads and deletes as JSON lines on stdin ask.

In: {"list": FOLDER}, {"get": FILE}, {"delete": FILE}. Out: {"files": [[name, size, milliseconds]], "more": bool},
{"hex": octets} or {"error": IedClientError}.
"""

import ctypes
import json
import os
import sys
import time
from ctypes import CFUNCTYPE, POINTER, byref, c_bool, c_char_p, c_int, c_uint8, c_uint32, c_uint64, c_void_p

from flexmap.faces.libiec61850 import ctypes_api

Received = CFUNCTYPE(c_bool, c_void_p, POINTER(c_uint8), c_uint32)


def load():
    library = ctypes_api.load()
    for name, result, arguments in (
        ("IedConnection_getFileDirectory", c_void_p, (c_void_p, c_void_p, c_char_p)),
        ("IedConnection_getFile", c_uint32, (c_void_p, c_void_p, c_char_p, Received, c_void_p)),
        ("IedConnection_deleteFile", None, (c_void_p, c_void_p, c_char_p)),
        ("FileDirectoryEntry_getFileName", c_char_p, (c_void_p,)),
        ("FileDirectoryEntry_getFileSize", c_uint32, (c_void_p,)),
        ("FileDirectoryEntry_getLastModified", c_uint64, (c_void_p,)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def connect(library, host, port):
    for _ in range(5):
        connection, error = library.IedConnection_create(), c_int(0)
        library.IedConnection_connect(connection, byref(error), host.encode(), int(port))
        if not error.value:
            library.IedConnection_getFileDirectory(connection, byref(error), b"")
            if not error.value:  # the client now and then connects and then loses the connection
                return connection
        time.sleep(0.2)
    sys.exit("no connection")


def carry_out(library, connection, request):
    error = c_int(0)
    ((what, name),) = request.items()
    if what == "list":
        head = library.IedConnection_getFileDirectory(connection, byref(error), name.encode())
        if error.value:
            return {"error": error.value}
        files, element = [], library.LinkedList_getNext(head)
        while element:
            entry = library.LinkedList_getData(element)
            files.append(
                [
                    library.FileDirectoryEntry_getFileName(entry).decode(),
                    library.FileDirectoryEntry_getFileSize(entry),
                    library.FileDirectoryEntry_getLastModified(entry),
                ]
            )
            element = library.LinkedList_getNext(element)
        return {"files": files}
    if what == "get":
        octets = bytearray()

        @Received
        def received(_parameter, buffer, size):
            octets.extend(ctypes.string_at(buffer, size))
            return True

        library.IedConnection_getFile(connection, byref(error), name.encode(), received, None)
        return {"error": error.value} if error.value else {"hex": octets.hex()}
    library.IedConnection_deleteFile(connection, byref(error), name.encode())
    return {"error": error.value}


def main(host, port):
    library = load()
    connection = connect(library, host, port)
    for line in sys.stdin:
        print(json.dumps(carry_out(library, connection, json.loads(line))), flush=True)


main(*sys.argv[1:])
os._exit(0)
