"""SCL files that others wrote: does flexmap read them, write them back without loss, check and serve them?

    .venv/bin/python tools/scl_survey.py FILE-OR-FOLDER...
    .venv/bin/python tools/scl_survey.py --checkouts FOLDER     # the files of tools/scl_survey.tsv

The second form reads the files of public projects that the list names (repository, path, commit) from clones in
FOLDER/OWNER/NAME. Prints a table: edition, IEDs and logical devices, errors and warnings of the check, whether the
file that is written back equals the one that was read (C14N 2.0, comments included), and what `serve --scl` says.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lxml import etree

from flexmap.model import FlexmapError
from flexmap.scl import document, served
from flexmap.scl.abilities import NATIVE
from flexmap.scl.check import check
from flexmap.scl.edition import edition
from flexmap.scl.engineered import load
from flexmap.scl.finding import Severity

LIST = Path(__file__).with_name("scl_survey.tsv")
KINDS = (".icd", ".iid", ".cid", ".scd", ".ssd", ".sed")
HEAD = ("file", "edition", "IEDs", "LDs", "errors", "warnings", "written back", "served")


def row(name: str, path: Path) -> tuple[object, ...]:
    """Return what becomes of a file."""
    try:
        parsed = document.parse(path, everything=True)
        findings = check(path)
    except FlexmapError as error:
        return (name, "", "", "", "", "", "", f"refused: {error}")
    counts = [sum(finding.severity is each for finding in findings) for each in (Severity.ERROR, Severity.WARNING)]
    ieds = len(list(parsed.root.iterchildren(document.tag("IED"))))
    devices = len(list(parsed.root.iter(document.tag("LDevice"))))
    back = "equal" if canonical(document.unchanged(parsed.root)) == canonical(path.read_bytes()) else "DIFFERS"
    return (name, edition(parsed.root), ieds, devices, *counts, back, serving(path))


def canonical(data: bytes) -> bytes:
    """Return the canonical form of a document."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    return etree.tostring(etree.fromstring(data, parser).getroottree(), method="c14n2", with_comments=True)


def serving(path: Path) -> str:
    """Return whether the first IED can be served, or why not."""
    try:
        found = load(path, None, NATIVE)
        ied = served.parse(found.scl, found.ied)
    except FlexmapError as error:
        return f"refused: {error.what}"
    return f"yes, {len(ied.devices)} logical devices"


def named(arguments: list[str]) -> Iterator[tuple[str, Path]]:
    """Return the files to look at."""
    for argument in arguments:
        path = Path(argument)
        files = (
            [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.suffix.lower() in KINDS)
        )
        yield from ((str(file), file) for file in files)


def listed(checkouts: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Return the files of the list, each as it was at its commit."""
    for line in LIST.read_text().splitlines():
        repository, path, commit = line.split("\t")
        clone = checkouts / repository
        if not clone.is_dir():
            print(f"left out: {repository} is not in {checkouts}", file=sys.stderr)
            continue
        text = subprocess.run(
            ["git", "-C", clone, "show", f"{commit}:{path}"], check=True, capture_output=True
        ).stdout
        target = folder / f"{len(list(folder.iterdir()))}{Path(path).suffix}"
        target.write_bytes(text)
        yield f"{repository}/{path}", target


def main(arguments: list[str]) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        files = listed(Path(arguments[1]), Path(folder)) if arguments[:1] == ["--checkouts"] else named(arguments)
        print("|", " | ".join(HEAD), "|")
        print("|" + "---|" * len(HEAD))
        for name, path in files:
            print("|", " | ".join(str(cell).replace("|", "/") for cell in row(name, path)), "|", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
