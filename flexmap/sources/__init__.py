"""Where samples come from: models of meters, concentrators, DLMS clients."""
