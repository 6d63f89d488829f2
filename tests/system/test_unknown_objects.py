"""A meter type with registers that the map has no name for: each is an object on DLMS and a GGIO point on MMS."""

import json
import re
from pathlib import Path

import gurux_client
from gateway_harness import GAK, GUEK, flexmap, gateway

from flexmap.mapping.data import data_folder

REFERENCES = re.compile(r"^(reference|supply|cdc) = .*\n", re.MULTILINE)
UNNAMED = {"frequency": "AnIn", "energy-apparent": "CntVal", "voltage": "AnIn", "tamper-count": "CntVal"}
EXTRA = """
[[point]]
name = "reverse-running-seconds"
title = "A register that no source reads"
kind = "counter"
obis = "1-0:94.43.130"
class = 1
type = "double-long-unsigned"
"""


def own_type(path: Path):
    """The single-phase meter's table without the IEC 61850 names of some points, and with one point more."""
    head, *points = (data_folder("obis") / "single-phase.toml").read_text().split("[[point]]\n")
    codes = {}
    for place, text in enumerate(points):
        name = re.search(r'name = "([^"]+)"', text)[1]
        if name in UNNAMED:
            points[place] = REFERENCES.sub("", text)
            codes[name] = re.search(r'obis = "([^"]+)"', text)[1]
    assert codes.keys() == UNNAMED.keys()
    text = "[[point]]\n".join([head.replace('id = "single-phase"', 'id = "foreign"'), EXTRA[11:], *points])
    path.write_text(text.replace('product = "FMSP"', 'product = "FOREIGN"'))
    return codes


def test_unknown_codes_pass_through_on_both_faces(tmp_path):
    codes = own_type(tmp_path / "foreign.toml")
    with gateway(tmp_path, meters=1) as demo:
        demo.stop()
    text = demo.config.read_text().replace('type = "single-phase"', 'type = "foreign"')
    demo.config.write_text(f'meter_types = ["foreign.toml"]\n{text}')
    ports = (demo.mms, demo.dlms, demo.web)
    with gateway(tmp_path, "serve", demo.config, command="serve", ports=ports) as running:
        running.config = demo.config
        running.wait_read()
        verdicts = flexmap("verify", demo.config, "--json")
        assert not verdicts.returncode, verdicts.stdout
        seen = {}
        for each in json.loads(verdicts.stdout):
            for cell in each.values() if isinstance(each, dict) else each:
                found = re.search(r"GGIO9\.(\w+?)\d+", str(cell))
                if found:
                    seen.setdefault(found[1], []).append(each)
        assert len(seen["AnIn"]) == 2
        assert len(seen["CntVal"]) >= 2
        listed = json.loads(flexmap("dlms", "objects", "SM0001", "--config", demo.config, "--json").stdout)
        names = {each["obis"].removesuffix(".255"): each for each in listed}
        with gurux_client.connect(
            "127.0.0.1", running.dlms, client_sap=2, server_sap=1001, keys=(GUEK, GAK), title=b"UNKNOWN1"
        ) as meter:
            there = {(class_id, name) for class_id, name in meter.objects()}
            for point, code in codes.items():
                name = code.replace("-", ".").replace(":", ".") + ".255"
                class_id = names[code]["class_id"]
                assert (class_id, name) in there
                assert meter.get(class_id, name, 2) >= 0, point
                assert f"GGIO9.{UNNAMED[point]}" in names[code]["iec61850"]
            assert (1, "1.0.94.43.130.255") in there
            meter.close()
        reference = names[codes["frequency"]]["iec61850"].partition("/")[2]
        shown = flexmap("read", f"mms://127.0.0.1:{running.mms}/FLEXGWSM0001/{reference}").stdout
        assert re.search(r" (49|50)(\.\d+)? +Hz", shown), shown
        described = flexmap("read", f"mms://127.0.0.1:{running.mms}/FLEXGWSM0001/{reference}.d").stdout
        assert codes["frequency"] in described, described
