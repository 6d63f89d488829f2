"""Rules for control blocks other than reports, and for those who receive: clients, subscribers, inputs."""

from __future__ import annotations

from flexmap.scl.generate import FileKind
from flexmap.scl.rules.context import Context, Element, children, descendants, node_name, number, text_of

_NONE = "None"
_SELF = "@"


def check(context: Context) -> None:
    """Check GOOSE, sampled values, logs and setting groups, and every reference to a client or a source."""
    stock = _Stock(context)
    identifiers: dict[str, Element] = {}
    for ied in context.ieds:
        for element in descendants(ied, "GSEControl", "SampledValueControl", "LogControl"):
            _check_control(context, element)
            if element.tag.endswith("}GSEControl"):
                _check_identifier(context, element, identifiers)
        for element in descendants(ied, "SettingControl"):
            _check_groups(context, element)
        for element in descendants(ied, "ClientLN"):
            _check_client(context, element, stock)
        for element in descendants(ied, "IEDName"):
            _check_subscriber(context, element, stock)
        for element in descendants(ied, "ExtRef"):
            _check_input(context, element, ied.get("name", ""), stock)


class _Stock:
    """What the IEDs of the file have; looked up only if something refers to it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ieds = {ied.get("name", ""): ied for ied in context.ieds}
        self._nodes: dict[str, set[tuple[str, str]]] = {}
        self._blocks: dict[str, set[tuple[str, str]]] = {}

    def has_ied(self, name: str) -> bool:
        return name in self._ieds

    def nodes(self, name: str) -> set[tuple[str, str]]:
        """Return (inst of the logical device, node) of an IED; inst is empty for nodes of an access point."""
        if name not in self._nodes:
            ied = self._ieds[name]
            found = {
                (device.get("inst", ""), node_name(node))
                for device in self._context.devices(ied)
                for node in children(device, "LN0", "LN")
            }
            found |= {
                ("", node_name(node)) for point in children(ied, "AccessPoint") for node in children(point, "LN")
            }
            self._nodes[name] = found
        return self._nodes[name]

    def blocks(self, name: str) -> set[tuple[str, str]]:
        """Return (inst of the logical device, control block) of an IED."""
        if name not in self._blocks:
            kinds = ("ReportControl", "GSEControl", "SampledValueControl")
            self._blocks[name] = {
                (device.get("inst", ""), control.get("name", ""))
                for device in self._context.devices(self._ieds[name])
                for control in descendants(device, *kinds)
            }
        return self._blocks[name]


def _check_control(context: Context, control: Element) -> None:
    name, data_set = control.get("name", ""), control.get("datSet")
    parent = control.getparent()
    if data_set is None or parent is None:
        return
    if data_set not in {element.get("name") for element in children(parent, "DataSet")}:
        what = f"{name}: {node_name(parent)} has no data set '{data_set}'"
        remedy = "put data set and control block into the same logical node"
        context.error("control-data-set", control, what, remedy)
    if not control.tag.endswith("}LogControl") and number(control.get("confRev"), -1) == 0:
        what = f"{name}: confRev is 0 although there is a data set"
        context.error("control-revision", control, what, "set confRev to 1 or more")


def _check_identifier(context: Context, control: Element, seen: dict[str, Element]) -> None:
    identifier = control.get("appID", "")
    if not identifier.strip():
        what = f"{control.get('name')}: appID is empty"
        context.error("goose-id", control, what, "give it an appID of its own in the whole system")
    elif identifier in seen:
        what, remedy = f"appID '{identifier}' stands already", "give each GOOSE control block its own"
        context.error("goose-id", control, what, remedy, see=seen[identifier])
    seen.setdefault(identifier, control)


def _check_groups(context: Context, control: Element) -> None:
    groups, active = number(control.get("numOfSGs")), number(control.get("actSG"), 1)
    if not 1 <= active <= groups:
        what = f"active setting group {active} of {groups}"
        context.error("setting-group", control, what, "set actSG to 1 up to numOfSGs")


def _check_client(context: Context, client: Element, stock: _Stock) -> None:
    """Check that a client is there; in a file of one IED it may be elsewhere."""
    ied = client.get("iedName", "")
    if not stock.has_ied(ied):
        if context.kind is FileKind.SCD and ied != _NONE:
            what = f"ClientLN: there is no IED '{ied}'"
            context.error("client-dangling", client, what, "name an IED of this project, or remove the client")
        return
    key = (client.get("ldInst", ""), node_name(client))
    if key not in stock.nodes(ied) and ("", key[1]) not in stock.nodes(ied):
        what = f"ClientLN: IED '{ied}' has no {'/'.join(part for part in key if part)}"
        context.error("client-dangling", client, what, "name a logical node of the client")


def _check_subscriber(context: Context, subscriber: Element, stock: _Stock) -> None:
    name = text_of(subscriber)
    if context.kind is FileKind.SCD and name != _NONE and not stock.has_ied(name):
        what = f"subscriber: there is no IED '{name}'"
        context.error("client-dangling", subscriber, what, "name an IED of this project, or remove it")


def _check_input(context: Context, reference: Element, own: str, stock: _Stock) -> None:
    ied = reference.get("iedName")
    ied = own if ied == _SELF else ied
    if not ied or ied == _NONE:
        return  # bound to nothing yet
    if not stock.has_ied(ied):
        if context.kind is FileKind.SCD:
            what = f"ExtRef: there is no IED '{ied}'"
            context.error("extref-dangling", reference, what, "name an IED of this project")
        return
    inst, remedy = reference.get("ldInst", ""), "name what the source has, or unbind the input"
    if reference.get("lnClass") and (inst, node_name(reference)) not in stock.nodes(ied):
        what = f"ExtRef: IED '{ied}' has no {inst}/{node_name(reference)}"
        context.error("extref-dangling", reference, what, remedy)
    block = reference.get("srcCBName")
    if block and (reference.get("srcLDInst") or inst, block) not in stock.blocks(ied):
        what = f"ExtRef: IED '{ied}' has no control block {reference.get('srcLDInst') or inst}/{block}"
        context.error("extref-dangling", reference, what, remedy)
