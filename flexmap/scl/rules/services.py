"""Rules for ``Services``: against what the file itself uses, and against what the engine really does."""

from __future__ import annotations

from flexmap.scl.abilities import Abilities
from flexmap.scl.rules.bindings import PRODUCT
from flexmap.scl.rules.context import Context, Element, child, children, descendants, is_true, number

_FIELDS = ("datSet", "rptID", "optFields", "bufTime", "trgOps", "intgPd")
_LOG_SERVICES = ("ConfLogControl", "LogSettings")
_GOOSE_SERVICES = ("GOOSE", "GSESettings", "GSEDir", "GSSE")


def check(context: Context) -> None:
    """Check the services of each IED with a server."""
    for ied in context.ieds:
        servers = [server for point in children(ied, "AccessPoint") for server in children(point, "Server")]
        if not servers:
            continue
        services = child(ied, "Services")
        points = [child(point, "Services") for point in children(ied, "AccessPoint")]
        services = (
            services if services is not None else next((found for found in points if found is not None), None)
        )
        if services is None:
            what = f"IED '{ied.get('name')}' does not state its services"
            context.warning("services-missing", ied, what, "add Services; tools assume the least without it")
        else:
            _check_counts(context, ied, services)
        if context.abilities is not None and ied.get("type") == PRODUCT:
            _check_abilities(context, ied, services, context.abilities)


def _check_counts(context: Context, ied: Element, services: Element) -> None:
    """Compare what is stated with what is configured."""
    data_sets = list(descendants(ied, "DataSet"))
    _at_least(context, services, ("ConfDataSet", "max"), len(data_sets), "data sets")
    largest = max((len(children(data_set, "FCDA")) for data_set in data_sets), default=0)
    _at_least(context, services, ("ConfDataSet", "maxAttributes"), largest, "members in a data set")
    blocks = sum(_instances(control) for control in descendants(ied, "ReportControl"))
    _at_least(context, services, ("ConfReportControl", "max"), blocks, "report control blocks, instances counted")


def _at_least(context: Context, services: Element, stated_in: tuple[str, str], used: int, what: str) -> None:
    name, attribute = stated_in
    element = child(services, name)
    if element is None:
        return  # nothing is promised: data sets and control blocks are as the product has them
    stated = element.get(attribute)
    if stated is not None and number(stated, used) < used:
        text = f"{name} {attribute} is {stated}, but there are {used} {what}"
        context.error("services-count", element, text, f'set {attribute}="{used}"')


def _instances(control: Element) -> int:
    enabled = child(control, "RptEnabled")
    return number(enabled.get("max") if enabled is not None else None, 1)


def _check_abilities(context: Context, ied: Element, services: Element | None, abilities: Abilities) -> None:
    if services is not None:
        _check_promises(context, services, abilities)
    for name, able in (
        ("LogControl", abilities.logs),
        ("GSEControl", abilities.goose),
        ("SampledValueControl", abilities.sampled_values),
        ("SettingControl", abilities.setting_groups),
    ):
        if not able:
            for element in descendants(ied, name):
                _unable(context, element, f"{name} '{element.get('name', '')}'", abilities)
    for control in descendants(ied, "ReportControl"):
        if _instances(control) > abilities.max_clients:
            what = f"{_instances(control)} instances for {abilities.max_clients} clients"
            _unable(context, control, what, abilities)
    devices = list(context.devices(ied))
    if len(devices) > abilities.max_logical_devices:
        what = f"{len(devices)} logical devices; it holds {abilities.max_logical_devices}"
        _unable(context, ied, what, abilities)


def _check_promises(context: Context, services: Element, abilities: Abilities) -> None:
    refused = {
        "DynDataSet": abilities.dynamic_data_sets,
        "FileHandling": abilities.file_service,
        "SettingGroups": abilities.setting_groups,
        "SMVsc": abilities.sampled_values,
        "SMVSettings": abilities.sampled_values,
        "TimerActivatedControl": False,
        "SetDataSetValue": False,
        **dict.fromkeys(_LOG_SERVICES, abilities.logs),
        **dict.fromkeys(_GOOSE_SERVICES, abilities.goose),
    }
    for name, able in refused.items():
        element = child(services, name)
        if element is not None and not able:
            _unable(context, element, f"service {name}", abilities)
    association = child(services, "DynAssociation")
    if association is not None and number(association.get("max"), 0) > abilities.max_clients:
        what = f"{association.get('max')} associations; it holds {abilities.max_clients}"
        _unable(context, association, what, abilities)
    _check_settings(context, child(services, "ReportSettings"), abilities)


def _check_settings(context: Context, settings: Element | None, abilities: Abilities) -> None:
    if settings is None:
        return
    for field in _FIELDS:
        if settings.get(field) == "Dyn" and field not in abilities.dynamic_report_fields:
            _unable(context, settings, f"ReportSettings {field} Dyn", abilities)
    for field, able in (("resvTms", abilities.reserve_time), ("owner", abilities.owner)):
        if is_true(settings.get(field)) and not able:
            _unable(context, settings, f"ReportSettings {field}", abilities)


def _unable(context: Context, element: Element, what: str, abilities: Abilities) -> None:
    text = f"{what}: the engine '{abilities.engine}' does not do that"
    context.error("services-ability", element, text, "take it out, or use another engine")
