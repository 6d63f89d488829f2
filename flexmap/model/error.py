"""The one error tree: local, remote and configuration branches."""

from __future__ import annotations


class FlexmapError(Exception):
    """Anything flexmap itself reports as wrong."""


class LocalError(FlexmapError):
    """This side was asked for something it cannot do; no peer is to blame."""


class RemoteError(FlexmapError):
    """A peer (client, meter, worker) broke its protocol or refused."""


class ConfigurationError(FlexmapError):
    """A file or a flag is wrong.

    Names what is wrong, where (file, entry, field or line) and the way out, so that a person can mend it
    without reading code.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what, where, remedy)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text} ({self.remedy})" if self.remedy else text
