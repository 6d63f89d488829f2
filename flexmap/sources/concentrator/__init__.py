"""Reads meters through a concentrator: its MNSH shell on a serial port, a pseudo-terminal or TCP."""
