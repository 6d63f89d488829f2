import json

import pytest
from click.testing import CliRunner
from scl_site import site

from flexmap.cli.scl import scl
from flexmap.gateway import config
from flexmap.mapping.data import data_folder
from flexmap.model import ConfigurationError
from flexmap.scl.check import check
from flexmap.scl.communication import Address
from flexmap.scl.generate import FileKind, generate

CONFIG = """
[site]
name = "Test site"
ied = "FLEX1"

[[source]]
kind = "simulation"
name = "model"

[[meter]]
id = "meter-1"
type = "single-phase"
ld = "MTR01"
sap = 16
source = "model"

[[meter]]
id = "meter-2"
type = "three-phase"
ld = "SUB01"
sap = 17
source = "model"
direction = "supply"

[mms]
listen = "192.0.2.7:10102"
"""


def run(*arguments):
    return CliRunner().invoke(scl, [str(argument) for argument in arguments])


def test_check_says_where(tmp_path):
    text = generate(site(), FileKind.CID).decode().replace('doName="TotVAh"', 'doName="TotWh"', 1)
    line = text[: text.index('doName="TotWh"')].count("\n") + 1
    path = tmp_path / "site.cid"
    path.write_text(text)
    result = run("check", path)
    assert result.exit_code == 1
    assert f"{path}:{line}: error:" in result.output
    assert "[fcda-do]" in result.output
    assert f"{path}: 1 errors, 0 warnings" in result.output
    found = json.loads(run("check", "--json", path).output)
    assert [(finding["file"], finding["line"], finding["rule"]) for finding in found] == [
        (str(path), line, "fcda-do")
    ]
    log = json.loads(run("check", "--sarif", path).output)["runs"][0]
    assert [rule["id"] for rule in log["tool"]["driver"]["rules"]] == ["fcda-do"]
    (result,) = log["results"]
    place = result["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == (f"file://{path}", line)
    assert (result["ruleId"], result["ruleIndex"], result["level"]) == ("fcda-do", 0, "error")


@pytest.mark.parametrize(
    ("old", "new", "codes"),
    [
        ("", "", {"error": 0, "warning": 0, "info": 0, "never": 0}),
        ('doName="TotVAh"', 'doName="TotWh"', {"error": 1, "warning": 1, "info": 1, "never": 0}),
        ('rptID="MTR01/brState"', 'rptID="MTR01/brEnergy"', {"error": 0, "warning": 1, "info": 1, "never": 0}),
        ('release="4"', 'release="1"', {"error": 0, "warning": 0, "info": 1, "never": 0}),
    ],
)
def test_exit_codes_of_check(tmp_path, old, new, codes):
    good, path = tmp_path / "good.cid", tmp_path / "site.cid"
    good.write_bytes(generate(site(), FileKind.CID))
    path.write_text(good.read_text().replace(old, new, 1))
    assert {level: run("check", "--fail-on", level, good, path).exit_code for level in codes} == codes
    assert run("check", path).exit_code == codes["error"]
    assert run("check", path, tmp_path / "missing.cid").exit_code != 0
    assert run("check", "--json", "--sarif", path).exit_code == 2


def test_check_of_a_faultless_file(tmp_path):
    path = tmp_path / "site.scd"
    path.write_bytes(generate(site(), FileKind.SCD))
    result = run("check", path)
    assert (result.exit_code, result.output) == (0, f"{path}: 0 errors, 0 warnings\n")


def test_check_of_what_is_no_scl_file(tmp_path):
    path = tmp_path / "site.scd"
    path.write_text("<a>")
    result = run("check", path)
    assert isinstance(result.exception, ConfigurationError)


def test_icd_writes_what_is_committed(tmp_path):
    assert run("icd", "-o", tmp_path).exit_code == 0
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_bytes() for path in data_folder("scl").glob("*.icd")}
    assert len(written) == 4


@pytest.mark.parametrize("kind", FileKind)
def test_export_takes_the_kind_from_the_extension(tmp_path, kind):
    configuration = tmp_path / "site.toml"
    configuration.write_text(CONFIG)
    target = tmp_path / f"site.{kind}"
    result = run("export", configuration, "-o", target)
    assert result.exit_code == 0, result.output
    assert check(target) == []
    loaded = config.load(configuration)
    address = None if kind is FileKind.ICD else Address(host="192.0.2.7", port=10102)
    assert target.read_bytes() == generate(loaded.site, kind, address=address)


def test_export_takes_an_address_that_is_not_the_one_listened_on(tmp_path):
    path, target = tmp_path / "site.toml", tmp_path / "site.cid"
    path.write_text(CONFIG.replace("192.0.2.7:10102", "0.0.0.0:10102"))
    for told, host, port in (("192.0.2.9", "192.0.2.9", 10102), ("192.0.2.9:102", "192.0.2.9", 102)):
        result = run("export", path, "-o", target, "--address", told)
        assert result.exit_code == 0, result.output
        assert target.read_bytes() == generate(
            config.load(path).site, FileKind.CID, address=Address(host=host, port=port)
        )
    for wrong in ("192.0.2.9:0", "192.0.2.9:x", "192.0.2.9:70000"):
        with pytest.raises(ConfigurationError, match="--address"):
            CliRunner().invoke(
                scl,
                ["export", str(path), "-o", str(target), "--address", wrong],
                standalone_mode=False,
                catch_exceptions=False,
            )


def test_export_refuses_what_clients_cannot_reach(tmp_path):
    configuration = tmp_path / "site.toml"
    configuration.write_text(CONFIG.replace("192.0.2.7:10102", "192.0.2.7:0"))
    result = run("export", configuration, "-o", tmp_path / "site.cid")
    assert isinstance(result.exception, ConfigurationError)
    assert "port" in str(result.exception)


@pytest.mark.parametrize("name", ["site.xml", "missing/site.cid"])
def test_export_names_the_file_it_cannot_write(tmp_path, name):
    configuration = tmp_path / "site.toml"
    configuration.write_text(CONFIG)
    result = run("export", configuration, "-o", tmp_path / name)
    assert isinstance(result.exception, ConfigurationError)
    assert name in str(result.exception)
