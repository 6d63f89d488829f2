"""MMS engine on libiec61850: the field's reference server, in a worker process of its own.

Only this package touches the GPL library, and of it only the processes ``python -m flexmap.faces.libiec61850``
(the server) and ``python -m flexmap.faces.libiec61850.client``. The modules ``engine`` and ``limits`` run in the
core and import none of it.
"""
