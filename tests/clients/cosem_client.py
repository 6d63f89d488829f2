"""The dlms-cosem client against a running server, in a process of its own (see remote.py).

::

    with connect("127.0.0.1", port, client_sap=1, server_sap=16, keys=(guek, gak)) as meter:
        meter.get(3, "1.0.1.8.0.255", 2)

It checks GCM tags and the server's counters itself. Settings as in cosem_session.Session.
"""

from __future__ import annotations

from remote import Remote


def connect(host: str, port: int, **settings: object) -> Remote:
    """Associate and return the session's proxy; raises RemoteFailure."""
    return Remote("cosem_session.py", host, port, **settings)
