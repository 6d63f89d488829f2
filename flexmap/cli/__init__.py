"""The command line: demo, serve, read, verify, map, scl."""
