"""Serial lines and pseudo-terminals as Twisted transports."""
