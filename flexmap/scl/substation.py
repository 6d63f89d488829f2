"""The ``Substation`` section of an SCD: infeed and feeders, each meter a function bound to its logical nodes."""

from __future__ import annotations

from lxml import etree

from flexmap.model import Direction, Site
from flexmap.scl.document import add
from flexmap.scl.ied import Device
from flexmap.scl.nodes import ROOT_LD, Node

_SWITCHING = frozenset({"XSWI", "XCBR", "CSWI", "CILO"})
_HOUSEKEEPING = frozenset({"LLN0", "LPHD"})
_BAYS = ((Direction.SUPPLY, "Infeed", "Meters of the infeed"), (Direction.DEMAND, "Feeders", "Customers' meters"))


def write(parent: etree._Element, site: Site, name: str, ied: str, contents: list[Device]) -> None:
    """Append ``Substation``: one bay for the infeed, one for the feeders, and the gateway's own function."""
    by_inst = {device.inst: device for device in contents}
    substation = add(parent, "Substation", name=name, desc=site.name)
    level = add(substation, "VoltageLevel", name="LV", desc="Low voltage")
    for direction, bay_name, description in _BAYS:
        meters = [meter for meter in site.meters if meter.direction is direction]
        if meters:
            bay = add(level, "Bay", name=bay_name, desc=description)
            for meter in meters:
                _write_meter(bay, ied, by_inst[meter.ld])
    function = add(substation, "Function", name="Gateway", type="Gateway")
    _bind(function, ied, ROOT_LD, by_inst[ROOT_LD].nodes)


def _write_meter(bay: etree._Element, ied: str, device: Device) -> None:
    function = add(bay, "Function", name=device.inst, desc=device.description or None, type="Metering")
    _bind(function, ied, device.inst, [node for node in device.nodes if node.ln_class not in _SWITCHING])
    switching = [node for node in device.nodes if node.ln_class in _SWITCHING]
    if switching:
        equipment = add(function, "ConductingEquipment", name="QB1", desc="Load switch of the meter", type="DIS")
        _bind(equipment, ied, device.inst, switching)


def _bind(parent: etree._Element, ied: str, inst: str, nodes: list[Node]) -> None:
    for node in nodes:
        if node.ln_class not in _HOUSEKEEPING:
            prefix = node.prefix or None
            add(parent, "LNode", iedName=ied, ldInst=inst, prefix=prefix, lnClass=node.ln_class, lnInst=node.inst)
