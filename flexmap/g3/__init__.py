"""G3-PLC (ITU-T G.9903): PHY model, MAC, 6LoWPAN, LOADng and bootstrap as sans-io state machines."""
