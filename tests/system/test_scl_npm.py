"""SCL files against validators that others wrote: npm's scl-template-validator and scl-lib, on Node."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from flexmap.cli.scl import scl
from flexmap.mapping.table import load_products
from flexmap.model import Direction, Meter, Site
from flexmap.scl.generate import FileKind, generate, product_icd

NPM = Path(__file__).parent.parent / "npm"
TYPES = load_products()


def run(*command):
    return subprocess.run(command, cwd=NPM, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="session")
def validators():
    """Install the validators into tests/npm/node_modules, once."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    stamp = NPM / "node_modules" / ".package-lock.json"
    if not stamp.exists() or stamp.stat().st_mtime < (NPM / "package-lock.json").stat().st_mtime:
        try:
            result = run("npm", "ci", "--no-audit", "--no-fund")
        except subprocess.TimeoutExpired:
            pytest.skip("npm could not install the validators in time (registry not reachable?)")
        if result.returncode:
            pytest.skip(f"npm could not install the validators: {result.stderr.strip()[-300:]}")


def node(*arguments, script="validate.mjs"):
    result = run("node", script, *map(str, arguments))
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A file of each kind for each type and direction, and the product ICDs."""
    folder = tmp_path_factory.mktemp("scl")
    for name in TYPES:
        (folder / f"{name}.icd").write_bytes(product_icd(TYPES[name]))
        for direction in Direction:
            meters = tuple(
                Meter(id=f"m{n}", type=name, ld=f"M{n}", sap=16 + n, direction=direction, location="Hall")
                for n in (1, 2)
            )
            site = Site(name="Test", ied="FLEX1", meters=meters, types=TYPES)
            for kind in FileKind:
                (folder / f"{name}-{direction}.{kind}").write_bytes(generate(site, kind))
    return folder


def test_generated_files_have_no_issue(validators, files):
    paths = sorted(files.iterdir())
    assert len(paths) == len(TYPES) * (1 + len(Direction) * len(FileKind))
    report = node(*paths)
    for path in paths:
        found = report[str(path)]
        assert found["template"]["groups"] > 30
        assert found["template"]["issues"] == []
        assert found["library"]["nodeTypes"] >= 11
        assert found["library"]["members"] > 20
        assert found["library"]["issues"] == []


@pytest.mark.parametrize(
    "case",
    [
        ('<DO name="Proxy" type="FMSP_SPS"/>', "", "template", "Proxy"),
        ('<DA name="pulsQty"', '<DA name="pulsQti"', "template", "pulsQty"),
        ('<DA name="pulsQty"', '<DA name="pulsQti"', "library", "pulsQti is not in the namespace"),
        ('doName="TotVAh"', 'doName="TotVArh"', "library", "names nothing"),
    ],
)
def test_the_validators_do_see_faults(validators, files, tmp_path, case):
    old, new, who, what = case
    text = (files / "single-phase.icd").read_text()
    assert old in text
    path = tmp_path / "broken.icd"
    path.write_text(text.replace(old, new))
    issues = node(path)[str(path)][who]["issues"]
    assert any(what in issue for issue in issues), issues


@pytest.mark.parametrize("product", TYPES)
@pytest.mark.parametrize("clash", [False, True])
def test_a_merge_is_what_scl_lib_makes(validators, files, tmp_path, product, clash):
    """insertIed of scl-lib and `flexmap scl merge`: the same addresses, values and types behind every node."""
    project, ours, theirs = files / "single-phase-demand.scd", tmp_path / "ours.scd", tmp_path / "theirs.scd"
    if clash:  # a type of the project that has an id of the product's, and is another
        text = project.read_text()
        changed = text.replace('<EnumVal ord="5">off</EnumVal>', '<EnumVal ord="5">out</EnumVal>')
        assert changed != text
        project = tmp_path / "project.scd"
        project.write_text(changed)
    theirs.write_text(node("--inserted", project, files / f"{product}.icd"))
    merge = ["merge", str(files / f"{product}.icd"), str(project), "--name", "SECOND", "-o", str(ours)]
    result = CliRunner().invoke(scl, merge)
    assert result.exit_code == 0, result.output
    assert ("is now" in result.output) is clash
    report = node("--equal", ours, theirs)
    assert report["differ"] == ["value SECOND>>GW> LPHD 1>PhyNam>name"]  # scl-lib leaves TEMPLATE there
    assert report["compared"] > 500


def test_findings_are_valid_sarif(validators, files, tmp_path):
    broken = tmp_path / "broken \u00e9.scd"
    text = (files / "single-phase-demand.scd").read_text()
    broken.write_text(
        text.replace('doName="TotVAh"', 'doName="TotVArh"').replace('version="2007"', 'version="2010"')
    )
    faultless = files / "single-phase.icd"
    logs = []
    for number, path in enumerate((broken, faultless)):
        result = CliRunner().invoke(scl, ["check", "--sarif", str(path)])
        logs.append(tmp_path / f"{number}.sarif")
        logs[-1].write_text(result.output)
    report = node(*logs, script="sarif.mjs")
    assert report == {str(log): [] for log in logs}
    found = json.loads(logs[0].read_text())["runs"][0]["results"]
    assert {result["level"] for result in found} == {"error", "warning"}
    assert json.loads(logs[1].read_text())["runs"][0]["results"] == []
    spoiled = json.loads(logs[0].read_text())
    spoiled["runs"][0]["results"][0]["level"] = "fatal"
    logs[0].write_text(json.dumps(spoiled))
    assert node(logs[0], script="sarif.mjs")[str(logs[0])] != []


def test_two_products_merge_without_renaming_a_type(validators, files):
    merged = node("--merge", files / "single-phase-demand.scd", files / "three-phase.icd")
    assert merged["edits"] > 0
    assert merged["ids"]
    assert all(identifier.startswith("FMTP_") for identifier in merged["ids"])
    again = node("--merge", files / "single-phase-demand.scd", files / "single-phase.icd")
    assert again["ids"] == []
    far = node("--merge", files / "single-phase-demand.scd", files / "single-phase-g3-plc.icd")
    assert far["ids"]
    assert all(identifier.startswith("FMSPG3_") for identifier in far["ids"])
