"""DLMS/COSEM protocol machines: sans-io server and client cores (IEC 62056-5-3, -6-2, -47).

A shell feeds octets in and writes octets out; time, randomness and invocation counters are passed in.
Start at :mod:`flexmap.dlms.server` (server) or :mod:`flexmap.dlms.client` (client).
"""
