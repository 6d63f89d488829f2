"""``python -m flexmap.faces.libiec61850``: the worker process."""

from flexmap.faces.libiec61850.worker import main

main()
