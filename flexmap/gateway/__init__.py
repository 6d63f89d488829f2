"""Configuration, wiring and supervision of a running gateway."""
