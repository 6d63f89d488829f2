"""The pages say what the code does: links, commands, options with their defaults, keys, codes, names."""

import re
import shlex
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import click
import msgspec
import pytest

from flexmap.cli.main import cli
from flexmap.dlms.apdu import CONFORMANCE_LN, CONFORMANCE_SN, Conformance
from flexmap.faces.libiec61850.limits import check_limits
from flexmap.faces.mms import MmsFiles, MmsLimits
from flexmap.gateway import concentrator_config
from flexmap.gateway import config as configuration
from flexmap.gateway.demo import CLIENTS, SECRETS, DemoOptions, write_config
from flexmap.gateway.dlms_listeners import HdlcSerial, HdlcTcp, WrapperTcp, WrapperUdp
from flexmap.gateway.dlms_push import DlmsPush
from flexmap.gateway.sections import (
    ConcentratorSection,
    DlmsClient,
    DlmsSection,
    MeterSection,
    MmsSection,
    MmsTls,
    RetentionSection,
    SimulationSection,
    SiteSection,
    StoreSection,
    WebSection,
)
from flexmap.mapping.table import load as load_table
from flexmap.model import ConfigurationError, EventCode, Site
from flexmap.scl import check
from flexmap.scl.abilities import LIBIEC61850
from flexmap.scl.reports import meter_reports, site_reports
from flexmap.sources.load import read_load
from flexmap.stcomet import catalogue, mnsh
from flexmap.store.profile import AmrStatus

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def page(name):
    return (ROOT / "docs" / name).read_text()


def section(text, head):
    """What stands below a heading that begins so, down to the next heading."""
    match = re.search(rf"^#+ {re.escape(head)}.*?$(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, head
    return match[1]


def rows(text):
    """Cells of the table rows whose first cell is one name in backquotes."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if line.startswith("| `") and cells[0].count("`") == 2:
            yield [cells[0].strip("`"), *cells[1:]]


def test_the_readme_names_every_page():
    named = set(re.findall(r"\]\(docs/([^)#]+)\)", (ROOT / "README.md").read_text()))
    assert named == {path.name for path in PAGES[1:]}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), target


def commands():
    for path in [*PAGES, ROOT / "CHANGELOG.md"]:
        for command in re.findall(r"(?:^ *|`)(flexmap [a-z][^`#\n]*)", path.read_text(), re.MULTILINE):
            if command.split()[1] in cli.commands and "://…" not in command:
                yield pytest.param(command, id=f"{path.name}: {command[:60]}")


@pytest.mark.parametrize("command", list(commands()))
def test_commands_parse(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE.csv").touch()
    words = shlex.split(command)[1:]
    found: click.Command = cli
    while isinstance(found, click.Group) and words:
        found = found.commands[words.pop(0)]
    if words:  # a command that is only named has no arguments to check
        found.make_context("flexmap", words)


SECTIONS = {
    "`[site]`": (SiteSection,),
    "`[mms]`": (MmsSection,),
    "`[mms.limits]`": (MmsLimits,),
    "`[mms.files]`": (MmsFiles,),
    "`[mms.tls]`": (MmsTls,),
    "`[dlms]`": (DlmsSection, DlmsClient),
    "`[[dlms.listener]]`": (WrapperTcp, WrapperUdp, HdlcSerial, HdlcTcp),
    "`[dlms.push]`": (DlmsPush,),
    "`[store]`": (StoreSection,),
    "`[web]`": (WebSection,),
    "`[[source]]`": (SimulationSection,),
    "A concentrator as source": (ConcentratorSection,),
    "`[[meter]]`": (MeterSection,),
}


def options(struct):
    """Every option of a section with its default; None where it is needed."""
    for field in msgspec.structs.fields(struct):
        if field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT:
            yield field.name, None
        elif isinstance(field.default, RetentionSection):
            yield from ((f"retention.{name}", value) for name, value in options(RetentionSection))
        elif field.default_factory is msgspec.NODEFAULT and field.name not in {
            "client",
            "listener",
            "retention",
        } | {DlmsSection: {"push"}, MmsSection: {"limits", "files", "tls"}}.get(struct, set()):
            yield field.name, field.default


@pytest.mark.parametrize("head", SECTIONS)
def test_the_configuration_page_has_every_option_with_its_default(head):
    coded = {name: value for struct in SECTIONS[head] for name, value in options(struct)}
    written = {cells[0]: cells[1] for cells in rows(section(page("configuration.md"), head))}
    if head == "`[[meter]]`":
        assert written.pop("identity").startswith("from")
    if head == "`[dlms]`":
        clients = {name for name, _ in options(DlmsClient)}
        assert clients <= written.keys() | {"protection"}
        coded = {name: value for name, value in coded.items() if name not in clients}
        written = {name: value for name, value in written.items() if name not in clients}
    assert written.keys() == coded.keys()
    if head == "`[mms.tls]`":
        assert (coded.pop("peers"), written["peers"]) == ((), "all")
    if head == "`[dlms.push]`":
        assert coded.pop("objects") == tuple(written["objects"].split(", "))
        assert (coded.pop("allowed"), written["allowed"]) == ((), "none")
    for name, default in coded.items():
        if default is None:
            assert written[name] == "–", name
        elif isinstance(default, bool):
            assert written[name] in {f"`{str(default).lower()}`", f"`{default}`"}, name
        else:
            text = written[name].strip("`")
            assert (float(text) == default) if isinstance(default, float) else (text == (str(default) or '""')), (
                name
            )


def test_the_load_data_of_the_page_are_load_data(tmp_path):
    (tmp_path / "load.csv").write_text(re.search(r"```\n(date.*?)```", page("configuration.md"), re.DOTALL)[1])
    assert read_load(tmp_path / "load.csv").step == 60


def test_the_own_table_of_the_page_is_a_meter_type(tmp_path):
    (tmp_path / "own.toml").write_text(re.search(r"```toml\n(.*?)```", page("mapping.md"), re.DOTALL)[1])
    assert [point.name for point in load_table(tmp_path / "own.toml").points] == [
        "energy-active-import",
        "active-power",
    ]


def test_clients_and_keys_of_the_demo():
    text = page("dlms.md")
    for client in CLIENTS:
        assert f"| {client.sap} | `{client.name}` |" in text
    for secret in SECRETS.values():
        for value in (secret.password, secret.encryption_key, secret.authentication_key):
            assert value in text


def test_the_conformance_of_the_page_is_that_of_the_code():
    other = {"block-transfer-with-get": "block-transfer-with-get-or-read",
             "block-transfer-with-set": "block-transfer-with-set-or-write",
             "attribute-0-with-set": "attribute0-supported-with-set",
             "attribute-0-with-get": "attribute0-supported-with-get",
             "priority-management": "priority-mgmt-supported"}  # fmt: skip
    table = rows(section(page("dlms.md"), "Services"))
    written = {cells[0]: (cells[1] == "yes", cells[2] == "yes") for cells in table}
    names = {bit: bit.name.lower().replace("_", "-") for bit in Conformance}
    coded = {
        other.get(name, name): (bool(CONFORMANCE_LN & bit), bool(CONFORMANCE_SN & bit))
        for bit, name in names.items()
    }
    assert coded.pop("data-notification") == (False, False)  # where push is configured
    assert written.pop("data-notification") == (True, True)
    assert coded.pop("event-notification") == coded.pop("information-report") == (False, False)  # with notify
    assert (written.pop("event-notification"), written.pop("information-report")) == ((True, False), (False, True))
    assert written == coded


def test_event_codes_and_status_bits():
    rows = re.findall(r"^\| `0-0:99.98.*?\| (.*) \|$", section(page("dlms.md"), "Event codes"), re.MULTILINE)
    text = re.sub(r"L\d", "", " ".join(rows))
    assert {int(code) for code in re.findall(r"\b\d+\b", text)} == {code.value for code in EventCode}
    bits = re.findall(r"^\| (\d) \|", section(page("dlms.md"), "Status of a load profile row"), re.MULTILINE)
    assert sum(1 << int(bit) for bit in bits) == sum(AmrStatus)


def demo_site(meters=1) -> Site:
    return configuration.parse(write_config(DemoOptions(meters=meters)), Path("demo.toml")).site


def test_reports_and_data_sets():
    site = demo_site()
    reports = [*site_reports(site, LIBIEC61850), *meter_reports(site, site.meters[0], LIBIEC61850)]
    for report in reports:
        assert f"`{report.name}`" in page("mms.md")
        assert f"`{report.name}`" in page("scl.md")
        assert f"`{report.data_set}`" in page("scl.md")


def test_rules_of_the_checker():
    written = set(re.findall(r"`([a-z]+(?:-[a-z]+)*)`", section(page("scl.md"), "The check"))) - {"ldNs"}
    source = "".join(path.read_text() for path in Path(check.__file__).parent.glob("rules/*.py"))
    coded = set(re.findall(r"context\.(?:error|warning)\(\s*\"([a-z-]+)\"", source))
    assert coded - written == set()


def test_as_many_meters_as_the_help_says():
    text = next(option.help for option in cli.commands["demo"].params if option.name == "meters")
    most = int(re.search(r"holds (\d+)", text)[1])
    check_limits(demo_site(most))
    with pytest.raises(ConfigurationError):
        check_limits(demo_site(most + 1))


def test_the_concentrators_page_has_every_option_with_its_default():
    options = {field.name: field.default for field in msgspec.structs.fields(concentrator_config.Section)}
    written = {cells[0]: cells[1] for cells in rows(section(page("concentrator.md"), "Run one"))}
    assert written.pop("port") == "–"
    assert options.pop("port") == ()
    assert {name: text.strip("`").strip('"') for name, text in written.items()} == {
        name: str(default) for name, default in options.items()
    }
    flags = {option.name for option in cli.commands["concentrator"].params}
    assert options.keys() | {"port"} <= flags


def test_the_concentrators_page_has_every_command_and_error_of_the_shell():
    written = {cells[0]: cells[1] for cells in rows(page("concentrator.md"))}
    coded = {command.usage: command.help for command in catalogue.COMMANDS}
    assert {usage: written.get(usage) for usage in coded} == coded
    assert {code.value for code in mnsh.ErrorCode} <= written.keys()
    usage = re.compile(rf"({'|'.join(catalogue.MODULES)}) [A-Z_]+( <[a-z0-9_]+>)*")
    assert {cell for cell in written if usage.fullmatch(cell)} == coded.keys()


def test_the_terminal_that_banner_and_readme_name_is_installed_with_flexmap():
    assert "pyserial-miniterm" in (ROOT / "README.md").read_text()
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert any(re.match(r"pyserial\b", requirement) for requirement in needed)
    scripts = distribution("pyserial").entry_points.select(group="console_scripts")
    assert "pyserial-miniterm" in {script.name for script in scripts} | {
        Path(str(path)).name for path in distribution("pyserial").files
    }
