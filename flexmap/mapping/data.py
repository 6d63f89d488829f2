"""Where the data folders of the project are: inside the installed package, or beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

import flexmap
from flexmap.model import LocalError


def data_folder(name: str) -> Path:
    """Return the folder ``obis``, ``scl`` or ``data``."""
    package = Path(flexmap.__file__).parent
    for folder in (package / "_data" / name, package.parent / name):
        if folder.is_dir():
            return folder
    raise LocalError(f"the data folder '{name}' is missing from the installation; install flexmap again")
