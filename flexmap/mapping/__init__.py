"""OBIS ↔ logical node: the one table (``obis/*.toml``) and the rules that both faces share."""
