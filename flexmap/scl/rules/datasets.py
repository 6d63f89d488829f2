"""Rules for data sets and report control blocks."""

from __future__ import annotations

from flexmap.scl.rules.context import Context, Element, child, children, is_true, node_name, number

_CONFIGURED = frozenset({"Conf", "Spec"})


def check(context: Context) -> None:
    """Check each data set against the data of its server, and each control block."""
    for ied in context.ieds:
        for point in children(ied, "AccessPoint"):
            for server in children(point, "Server"):
                _check_server(context, server)


class _Server:
    """What the members of a server's data sets can name."""

    def __init__(self, server: Element) -> None:
        self.devices = {device.get("inst", ""): device for device in children(server, "LDevice")}
        self.types: dict[tuple[str, str], str] = {}
        """``lnType`` by inst of the logical device and name of the node."""
        for inst, device in self.devices.items():
            for node in children(device, "LN0", "LN"):
                self.types.setdefault((inst, node_name(node)), node.get("lnType", ""))
        self.faultless: set[tuple[str, str, str | None, str]] = set()
        """lnType, data object, attribute and fc of members that were found to be there."""


def _check_server(context: Context, element: Element) -> None:
    server = _Server(element)
    report_ids: dict[str, Element] = {}
    for device in server.devices.values():
        for node in children(device, "LN0", "LN"):
            for data_set in children(node, "DataSet"):
                _check_data_set(context, data_set, server)
            for control in children(node, "ReportControl"):
                _check_report(context, control, node)
                _check_report_id(context, control, report_ids)


def _check_data_set(context: Context, data_set: Element, server: _Server) -> None:
    seen: set[frozenset[object]] = set()
    members = children(data_set, "FCDA")
    if not members:
        context.error("data-set-empty", data_set, f"data set {data_set.get('name')} has no member", "add an FCDA")
    for member in members:
        key = frozenset((name, value) for name, value in member.items() if value)
        if key in seen:
            context.warning("fcda-duplicate", member, f"{_member_name(member)} stands here twice", "remove one")
        seen.add(key)
        _check_member(context, member, server)


def _check_member(context: Context, member: Element, server: _Server) -> None:
    inst, node = member.get("ldInst", ""), node_name(member)
    if inst not in server.devices:
        what = f"{_member_name(member)}: this server has no logical device '{inst}'"
        context.error("fcda-ld", member, what, "name data of the same server only")
        return
    ln_type = server.types.get((inst, node))
    if ln_type is None:
        what = f"{_member_name(member)}: {inst} has no logical node {node or '(none)'}"
        context.error("fcda-ln", member, what, "name a node that is there: prefix, lnClass and lnInst")
        return
    key = (ln_type, member.get("doName", ""), member.get("daName"), member.get("fc", ""))
    if key in server.faultless or ln_type not in context.node_types or not key[1]:
        return
    before = context.reported
    object_type = context.object_type(ln_type, key[1])
    if object_type is None:
        what = f"{_member_name(member)}: {node} has no data object {key[1]}"
        context.error("fcda-do", member, what, f"name one of LNodeType '{ln_type}'")
        return
    _check_attribute(context, member, object_type, _member_name(member))
    if context.reported == before:
        server.faultless.add(key)


def _check_attribute(context: Context, member: Element, object_type: Element, name: str) -> None:
    fc, da_path = member.get("fc", ""), member.get("daName")
    identifier = object_type.get("id")
    if da_path is None:
        constraints = context.constraints(object_type)
        if fc not in constraints:
            remedy = f"use one of {', '.join(sorted(constraints - {'CO'})) or 'none'}"
            context.error("fcda-fc", member, f"{name}: DOType '{identifier}' has nothing with fc {fc}", remedy)
        else:
            _check_kinds(context, member, object_type, fc, name)
        return
    found = context.attribute(object_type, da_path)
    first = context.attribute(object_type, da_path.partition(".")[0])
    if found is None or first is None:
        what = f"{name}: DOType '{identifier}' has no attribute {da_path}"
        context.error("fcda-da", member, what, "name one that is there")
    elif first.get("fc") != fc:
        context.error(
            "fcda-fc", member, f"{name}: {da_path} has fc {first.get('fc')}", f'set fc="{first.get("fc")}"'
        )
    elif found.get("valKind") in _CONFIGURED:
        _configured(context, member, f"{name}: {da_path}")


def _check_kinds(context: Context, member: Element, object_type: Element, fc: str, name: str) -> None:
    for attribute in children(object_type, "DA"):
        if attribute.get("fc") == fc and attribute.get("valKind") in _CONFIGURED:
            _configured(context, member, f"{name}: {attribute.get('name')}")


def _configured(context: Context, member: Element, what: str) -> None:
    remedy = "leave it out, or give it valKind Set or RO"
    context.error("fcda-kind", member, f"{what} exists in the file only (valKind Conf or Spec)", remedy)


def _check_report(context: Context, control: Element, node: Element) -> None:
    name = control.get("name", "")
    data_set = control.get("datSet")
    known = {element.get("name") for element in children(node, "DataSet")}
    if data_set is not None and data_set not in known:
        what = f"{name}: {node_name(node)} has no data set '{data_set}'"
        context.error(
            "report-data-set", control, what, "put data set and control block into the same logical node"
        )
    if data_set is not None and number(control.get("confRev"), -1) == 0:
        what = f"{name}: confRev is 0 although there is a data set"
        context.error(
            "report-revision", control, what, "set confRev to 1 or more; raise it when the data set changes"
        )
    enabled = child(control, "RptEnabled")
    instances = number(enabled.get("max") if enabled is not None else None, 1)
    if instances > 1 and not is_true(control.get("indexed"), default=True):
        what = f"{name}: {instances} instances, but not indexed"
        context.error("report-indexed", control, what, 'set indexed="true" or RptEnabled max="1"')
    _check_triggers(context, control, name)


def _check_triggers(context: Context, control: Element, name: str) -> None:
    triggers = child(control, "TrgOps")
    period = number(control.get("intgPd"))
    periodic = triggers is not None and is_true(triggers.get("period"))
    if period > 0 and not periodic:
        what = f"{name}: intgPd {period}, but TrgOps period is off"
        context.warning("report-triggers", control, what, 'set period="true", or intgPd="0"')
    if triggers is not None and not any(is_true(triggers.get(key)) for key in ("dchg", "qchg", "dupd", "period")):
        what = f"{name}: no trigger but general interrogation"
        context.warning("report-triggers", triggers, what, "switch dchg and qchg on")


def _check_report_id(context: Context, control: Element, seen: dict[str, Element]) -> None:
    identifier = control.get("rptID")
    if identifier is None:
        return
    if not identifier.strip():
        what = f"{control.get('name')}: rptID is empty"
        context.error("report-id", control, what, "leave rptID out, or give it a text of its own")
    elif identifier in seen:
        what, remedy = f"rptID '{identifier}' stands already", "give each control block an id of its own"
        context.warning("report-id", control, what, remedy, see=seen[identifier])
    seen.setdefault(identifier, control)


def _member_name(member: Element) -> str:
    attribute = f".{member.get('daName')}" if member.get("daName") else ""
    return f"{member.get('ldInst', '')}/{node_name(member)}.{member.get('doName', '')}{attribute}"
