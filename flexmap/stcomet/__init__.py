"""The STCOMET meter: metrology, tasks and messages, firmware, the FLEXMETER payload."""
