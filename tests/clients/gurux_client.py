"""Gurux's DLMS client against a running server, in a process of its own (GPL-2.0-only; see remote.py).

::

    with connect("127.0.0.1", port, client_sap=2, server_sap=16, secret=b"...") as meter:
        meter.get(3, "1.0.1.8.0.255", 2)
        meter.close()                      # releases the association

``keys`` = (guek, gak) with ``title`` turns on HLS-GMAC (unless a secret is given: then LLS) and suite 0
authentication and encryption. ``counter`` is the first invocation counter.
"""

from __future__ import annotations

from remote import Remote


def connect(host: str, port: int, **settings: object) -> Remote:
    """Associate and return the session's proxy; raises RemoteFailure. Settings as in gurux_session.Session."""
    return Remote("gurux_session.py", host, port, **settings)
