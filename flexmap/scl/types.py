"""Data objects as types: which attributes flexmap's products have in each common data class."""

from __future__ import annotations

import msgspec

from flexmap.scl import namespace

STATUS_ONLY = "status-only"
DIRECT = "direct-with-enhanced-security"
SELECT = "sbo-with-enhanced-security"

SELECT_TIMEOUT_MS = 30_000
OPERATE_TIMEOUT_MS = 30_000
"""How long a meter behind a slow power line may take to answer a command."""

_ATTRIBUTES = {
    "SPS": "stVal q t",
    "INS": "stVal q t",
    "ENS": "stVal q t",
    "VSS": "stVal q t",
    "BCR": "actVal q t units pulsQty",
    "MV": "mag q t units",
    "CMV": "cVal q t units",
    "WYE": "",
    "DEL": "",
    "SEQ": "seqT",
    "SPC": "stVal q t ctlModel",
    "ENC": "stVal q t ctlModel",
    "ORG": "setSrcRef",
    "DPL": "vendor swRev serNum model location name",
    "LPL": "vendor swRev ldNs configRev d",
}
_DPC = {
    STATUS_ONLY: "stVal q t ctlModel",
    DIRECT: "Oper origin ctlNum stVal q t ctlModel operTimeout",
    SELECT: "SBOw Oper Cancel origin ctlNum stVal q t stSeld ctlModel sboTimeout sboClass operTimeout",
}
_LABELS = {STATUS_ONLY: "status", DIRECT: "direct", SELECT: "select"}
_CONSTANTS = {
    "SEQ": (("seqT", "pos-neg-zero"),),
    "LPL": (("ldNs", namespace.LN_NAMESPACE),),
}
_CONTROLS = frozenset({"SPC", "DPC", "ENC"})


class ObjectType(msgspec.Struct, frozen=True):
    """The type of a data object: becomes one DOType."""

    cdc: str
    attributes: tuple[str, ...]
    """In the order of the class."""
    label: str
    """Tells apart the types of one class."""
    enumeration: str | None = None
    """Enumeration of the value."""
    children: tuple[str, ...] = ()
    """Sub data objects, all of the same type."""
    child: ObjectType | None = None
    constants: tuple[tuple[str, str], ...] = ()
    """Attributes whose value is the same in every instance."""


def object_type(
    cdc: str,
    *,
    name: str = "",
    model: str = STATUS_ONLY,
    children: tuple[str, ...] = (),
    texts: tuple[str, ...] = (),
) -> ObjectType:
    """Return the type of a data object.

    ``name`` chooses the enumeration, ``model`` is the ctlModel of a control, ``children`` are the sub data objects
    of a composite class, ``texts`` the description attributes (``d``, ``dU``).
    """
    known = namespace.attributes(cdc)
    if known is None or (cdc not in _ATTRIBUTES and cdc != "DPC"):
        raise KeyError(cdc)
    wanted = set((_DPC[model] if cdc == "DPC" else _ATTRIBUTES[cdc]).split())
    composite = bool(children)
    wanted.update(() if composite else texts)
    enumeration = namespace.enumeration_of(name) if cdc in {"ENS", "ENC", "ENG"} else None
    labels = [enumeration or "", _LABELS[model] if cdc in _CONTROLS else "", *([] if composite else texts)]
    order = [child for child in known if child in children]
    return ObjectType(
        cdc=cdc,
        attributes=tuple(attribute for attribute in known if attribute in wanted),
        label="_".join(label for label in [*labels, *order] if label),
        enumeration=enumeration,
        children=tuple(order),
        child=object_type("CMV", texts=texts) if composite else None,
        constants=_constants(cdc, model),
    )


def _constants(cdc: str, model: str) -> tuple[tuple[str, str], ...]:
    if cdc not in _CONTROLS:
        return _CONSTANTS.get(cdc, ())
    constants = [("ctlModel", model)]
    if model == SELECT:
        constants += [("sboTimeout", str(SELECT_TIMEOUT_MS)), ("sboClass", "operate-once")]
    if model != STATUS_ONLY:
        constants.append(("operTimeout", str(OPERATE_TIMEOUT_MS)))
    return tuple(constants)
