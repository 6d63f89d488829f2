"""The ``IED`` section: services, the root logical device and one logical device a meter."""

from __future__ import annotations

from lxml import etree

import flexmap
from flexmap.model import Site
from flexmap.scl import document
from flexmap.scl.abilities import DYNAMIC_DATA_SETS, Abilities
from flexmap.scl.document import add
from flexmap.scl.nodes import ROOT_LD, Node, Path, gateway_nodes, meter_nodes, node_named
from flexmap.scl.reports import BUFFER_TIME_MS, Member, Report, meter_reports, site_reports
from flexmap.scl.templates import Library

ACCESS_POINT = "AP1"
GATEWAY_PREFIX = "FMGW"
"""Prefix of the type ids of the root logical device."""


class Device:
    """A logical device to write: its nodes, and the reports of its LLN0."""

    def __init__(self, inst: str, description: str, nodes: list[Node], reports: list[Report], prefix: str) -> None:
        self.inst = inst
        self.description = description
        self.nodes = nodes
        self.reports = reports
        self.prefix = prefix


def devices(site: Site, abilities: Abilities) -> list[Device]:
    """Return the root logical device and those of the meters, in the site's order."""
    root = Device(ROOT_LD, site.name, gateway_nodes(site), site_reports(site, abilities), GATEWAY_PREFIX)
    meters = [
        Device(
            meter.ld,
            f"{meter.id} {meter.location}".strip(),
            meter_nodes(site, meter),
            meter_reports(site, meter, abilities),
            site.type_of(meter).product,
        )
        for meter in site.meters
    ]
    return [root, *meters]


def write(
    parent: etree._Element,
    site: Site,
    name: str,
    contents: list[Device],
    *,
    abilities: Abilities,
    libraries: dict[str, Library],
    owner: str | None = None,
) -> None:
    """Append the IED, and put the types that its nodes need into the libraries by prefix.

    ``owner`` is the project that gives the IED to others: they may add data flow, and change nothing else.
    """
    ied = add(
        parent,
        "IED",
        name=name,
        desc=site.name,
        type="flexmap gateway",
        manufacturer=site.vendor,
        configVersion=flexmap.__version__,
        originalSclVersion=document.VERSION,
        originalSclRevision=document.REVISION,
        originalSclRelease=document.RELEASE,
        engRight=None if owner is None else "dataflow",
        owner=owner,
    )
    _write_services(ied, contents, abilities)
    server = add(add(ied, "AccessPoint", name=ACCESS_POINT), "Server", timeout="30")
    add(server, "Authentication", none="true")
    for device in contents:
        library = libraries.setdefault(device.prefix, Library(device.prefix))
        _write_device(server, device, library, str(site.revision))


def _write_services(ied: etree._Element, contents: list[Device], abilities: Abilities) -> None:
    reports = [report for device in contents for report in device.reports]
    services = add(ied, "Services", nameLength=str(abilities.name_length))
    add(services, "DynAssociation", max=str(abilities.max_clients))
    for name in ("GetDirectory", "GetDataObjectDefinition", "DataObjectDirectory", "GetDataSetValue"):
        add(services, name)
    add(services, "DataSetDirectory")
    members = max((len(report.members) for report in reports), default=1)
    add(services, "ConfDataSet", max=str(len(reports)), maxAttributes=str(members), modify="false")
    if abilities.dynamic_data_sets:
        most, attributes = (str(number) for number in DYNAMIC_DATA_SETS)
        add(services, "DynDataSet", max=most, maxAttributes=attributes)
    add(services, "ReadWrite")
    blocks = sum(report.instances for report in reports)
    add(services, "ConfReportControl", max=str(blocks), bufMode="both", bufConf="false")
    add(services, "GetCBValues")
    add(
        services,
        "ReportSettings",
        cbName="Fix",
        **dict.fromkeys(abilities.dynamic_report_fields, "Dyn"),
        resvTms="true" if abilities.reserve_time else "false",
        owner="true" if abilities.owner else "false",
    )
    if abilities.file_service:
        add(services, "FileHandling")
    add(services, "ConfLNs", fixPrefix="true", fixLnInst="true")


def _write_device(server: etree._Element, device: Device, library: Library, revision: str) -> None:
    element = add(server, "LDevice", inst=device.inst, desc=device.description)
    for node in device.nodes:
        node_type = library.node(node.ln_class, node.objects)
        if node.ln_class == "LLN0":
            head = add(element, "LN0", lnClass="LLN0", inst="", lnType=node_type)
            _write_reports(head, device, revision)
            _write_values(head, node)
        else:
            prefix = node.prefix or None
            _write_values(
                add(element, "LN", prefix=prefix, lnClass=node.ln_class, inst=node.inst, lnType=node_type), node
            )


def _write_reports(head: etree._Element, device: Device, revision: str) -> None:
    for report in device.reports:
        data_set = add(head, "DataSet", name=report.data_set)
        for member in report.members:
            _write_member(data_set, member)
    for report in device.reports:
        control = add(
            head,
            "ReportControl",
            name=report.name,
            rptID=f"{device.inst}/{report.name}",
            datSet=report.data_set,
            confRev=revision,
            buffered="true" if report.buffered else "false",
            bufTime=str(BUFFER_TIME_MS if report.on_change else 0),
            intgPd=str(report.period),
            indexed="true",
        )
        changes = "true" if report.on_change else "false"
        add(control, "TrgOps", dchg=changes, qchg=changes, dupd="false", period="true", gi="true")
        buffered = "true" if report.buffered else "false"
        add(
            control,
            "OptFields",
            seqNum="true",
            timeStamp="true",
            dataSet="true",
            reasonCode="true",
            dataRef="false",
            entryID=buffered,
            configRef="true",
            bufOvfl=buffered,
        )
        add(control, "RptEnabled", max=str(report.instances))


def _write_member(data_set: etree._Element, member: Member) -> None:
    node = node_named(member.ln)
    add(
        data_set,
        "FCDA",
        ldInst=member.ld,
        prefix=node.prefix or None,
        lnClass=node.ln_class,
        lnInst=node.inst or None,
        doName=member.do,
        fc=member.fc,
    )


def _write_values(parent: etree._Element, node: Node) -> None:
    """Write bindings and values as DOI, SDI and DAI."""
    elements: dict[Path, etree._Element] = {}
    order = list(node.objects)
    paths = dict.fromkeys([*node.addresses, *node.values])
    for path in sorted(paths, key=lambda path: order.index(path[0])):
        leaf = add(_container(parent, elements, path[:-1]), "DAI", name=path[-1], sAddr=node.addresses.get(path))
        if path in node.values:
            add(leaf, "Val", node.values[path])


def _container(parent: etree._Element, elements: dict[Path, etree._Element], path: Path) -> etree._Element:
    if path not in elements:
        if len(path) == 1:
            elements[path] = add(parent, "DOI", name=path[0])
        else:
            elements[path] = add(_container(parent, elements, path[:-1]), "SDI", name=path[-1])
    return elements[path]
