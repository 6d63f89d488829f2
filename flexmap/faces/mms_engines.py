"""The engines of the MMS face, by their name in the configuration.

``libiec61850``: a worker process on the field's reference library, for small sites. ``native``: flexmap's own, in
the core process, for many meters and clients.
"""

from __future__ import annotations

from collections.abc import Callable

from flexmap.faces.libiec61850 import limits
from flexmap.faces.libiec61850.engine import LibIec61850Engine
from flexmap.faces.mms import EngineSettings, MmsEngine
from flexmap.faces.native.engine import NativeEngine
from flexmap.model import ConfigurationError, Site


def _libiec61850(settings: EngineSettings) -> LibIec61850Engine:
    for name, what in (
        ("limits", f"holds {limits.MAX_CLIENTS} clients, and no other limits"),
        ("files", "serves no files"),
    ):
        if getattr(settings, name) is not None:
            raise ConfigurationError(
                f"the engine {LibIec61850Engine.NAME} {what}",
                where=f"[mms.{name}]",
                remedy='remove the section, or set engine = "native"',
            )
    return LibIec61850Engine()


_Engine = tuple[Callable[[EngineSettings], MmsEngine], Callable[[Site], None]]
_ENGINES: dict[str, _Engine] = {
    LibIec61850Engine.NAME: (_libiec61850, limits.check_limits),
    NativeEngine.NAME: (lambda settings: NativeEngine(settings=settings), lambda _site: None),
}


def engine(name: str, settings: EngineSettings) -> MmsEngine:
    """Return a new engine; raises ConfigurationError if there is none of that name, or it has no such settings."""
    _check_name(name)
    return _ENGINES[name][0](settings)


def check_limits(name: str, site: Site) -> None:
    """Check a site against what the engine can hold; raises ConfigurationError naming limit and way out."""
    _check_name(name)
    _ENGINES[name][1](site)


def _check_name(name: str) -> None:
    if name not in _ENGINES:
        remedy = f"known engines: {', '.join(sorted(_ENGINES))}"
        raise ConfigurationError(f"no MMS engine '{name}'", where="mms.engine", remedy=remedy)
