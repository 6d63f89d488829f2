"""Nothing imports upwards, and the two GPL libraries stay in packages of their own."""

import ast
import subprocess
import sys
from pathlib import Path

import flexmap

PACKAGE = Path(flexmap.__file__).parent
SANS_IO = ("model", "mapping", "scl", "mms", "dlms", "g3", "stcomet")


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def importers(*libraries: str) -> set[str]:
    """Folders of the package in which one of the libraries is imported."""
    return {
        str(path.parent.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if any(name.partition(".")[0] in libraries for name in imports_of(path))
    }


def test_layers_hold():
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [command, "--no-cache"], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_each_gpl_library_has_one_package():
    """libiec61850's shared object is loaded by ctypes, and named by its wheel: both in one package alone."""
    naming = {
        str(path.parent.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "pyiec61850" in path.read_text(encoding="utf-8")
    }
    assert naming == {"faces/libiec61850"}
    assert importers("ctypes", "pyiec61850") == {"faces/libiec61850"}
    assert importers("gurux_dlms") <= {"sources/gurux"}


def test_protocol_machines_do_no_io_and_have_no_clock():
    forbidden = {"twisted", "socket", "asyncio", "threading", "subprocess", "time", "random", "secrets"}
    for layer in SANS_IO:
        for path in (PACKAGE / layer).rglob("*.py"):
            found = {name.partition(".")[0] for name in imports_of(path)} & forbidden
            assert not found, f"{path.relative_to(PACKAGE)} imports {found}"


def test_no_file_grows_too_long():
    long = {
        str(path.relative_to(PACKAGE)): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 600
    }
    assert not long
