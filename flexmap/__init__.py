"""flexmap: a meter gateway with one map and two faces, IEC 61850 MMS and DLMS/COSEM."""

__version__ = "0.1.0"
