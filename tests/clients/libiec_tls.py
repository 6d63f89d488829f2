"""Read a value by libiec61850's own client over TLS: HOST PORT REFERENCE AUTHORITIES CERTIFICATE KEY; prints JSON.

{"error": IedClientError of connecting, "value": a FLOAT32 or null}
"""

import json
import os
import sys
from ctypes import byref, c_bool, c_char_p, c_float, c_int, c_void_p

from flexmap.faces.libiec61850 import ctypes_api

MX = ctypes_api.FC["MX"]
TLS_1_2 = 6
"""TLSConfigVersion. With 1.3 the library (1.6.1) takes a session ticket for the connection's end."""


def main(host, port, reference, authorities, certificate, key):  # noqa: PLR0917 (a command line)
    library = ctypes_api.load()
    for name, result, arguments in (
        ("TLSConfiguration_create", c_void_p, ()),
        ("TLSConfiguration_setClientMode", None, (c_void_p,)),
        ("TLSConfiguration_setOwnKeyFromFile", c_bool, (c_void_p, c_char_p, c_char_p)),
        ("TLSConfiguration_setOwnCertificateFromFile", c_bool, (c_void_p, c_char_p)),
        ("TLSConfiguration_addCACertificateFromFile", c_bool, (c_void_p, c_char_p)),
        ("TLSConfiguration_setChainValidation", None, (c_void_p, c_bool)),
        ("TLSConfiguration_setMaxTlsVersion", None, (c_void_p, c_int)),
        ("IedConnection_createWithTlsSupport", c_void_p, (c_void_p,)),
        ("IedConnection_readFloatValue", c_float, (c_void_p, c_void_p, c_char_p, c_int)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    # What the library prints of certificates must not land before the answer.
    output = os.dup(1)
    os.dup2(2, 1)
    tls = library.TLSConfiguration_create()
    library.TLSConfiguration_setClientMode(tls)
    assert library.TLSConfiguration_addCACertificateFromFile(tls, authorities.encode())
    assert library.TLSConfiguration_setOwnCertificateFromFile(tls, certificate.encode())
    assert library.TLSConfiguration_setOwnKeyFromFile(tls, key.encode(), None)
    library.TLSConfiguration_setChainValidation(tls, True)
    library.TLSConfiguration_setMaxTlsVersion(tls, TLS_1_2)
    connection = library.IedConnection_createWithTlsSupport(tls)
    error = c_int(0)
    library.IedConnection_connect(connection, byref(error), host.encode(), int(port))
    failed, value = error.value, None
    if not failed:
        value = library.IedConnection_readFloatValue(connection, byref(error), reference.encode(), MX)
        value = None if error.value else value
    os.write(output, json.dumps({"error": failed, "value": value}).encode())


main(*sys.argv[1:])
os._exit(0)
