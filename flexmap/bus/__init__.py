"""The bus between the core and its worker processes: frames, framing and the core's protocol."""
