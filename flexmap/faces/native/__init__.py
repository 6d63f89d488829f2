"""MMS engine of flexmap's own: the server core of :mod:`flexmap.mms` on Twisted, in the core process."""
