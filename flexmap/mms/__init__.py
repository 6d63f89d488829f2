"""MMS protocol machines: a sans-io server core (ISO 9506-2, as IEC 61850-8-1 uses it, over RFC 1006).

A shell feeds octets in and writes octets out; time and randomness are passed in. Start at
:mod:`flexmap.mms.server`.
"""
