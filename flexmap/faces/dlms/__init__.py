"""The DLMS/COSEM face: meters as logical devices over the wrapper, TCP and UDP."""
