"""The configuration file of a site: TOML, decoded into frozen structs, checked as a whole.

Every error is a ConfigurationError naming the file, the entry and the way out. Paths in the file are relative
to the file's own folder. Secrets stand in a file of their own (:mod:`flexmap.gateway.secrets`).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from flexmap.gateway.config_check import Check, identity_of
from flexmap.gateway.sections import (
    ConcentratorSection,
    DlmsSection,
    File,
    MmsSection,
    SourceSection,
    StoreSection,
    WebSection,
)
from flexmap.mapping.table import behind, load_builtin, load_channels, load_products
from flexmap.mapping.table import load as load_table
from flexmap.model import ConfigurationError, Meter, MeterType, Site

CHANNEL = "g3-plc"
"""What is between a concentrator and its meters."""


class Config(msgspec.Struct, frozen=True):
    """A checked configuration."""

    path: Path
    site: Site
    sources: tuple[SourceSection, ...]
    mms: MmsSection
    dlms: DlmsSection
    store: StoreSection
    web: WebSection

    def resolve(self, name: str) -> Path:
        """Return a path of the file, relative to the file's folder."""
        return self.path.parent / Path(name).expanduser()


def load(path: Path) -> Config:
    """Return the checked configuration of a file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        remedy = "`flexmap demo --write-config FILE` writes one to start from"
        raise ConfigurationError(f"cannot read: {error.strerror}", where=str(path), remedy=remedy) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"not UTF-8 at byte {error.start}", where=str(path)) from None
    return parse(text, path)


def parse(text: str, path: Path) -> Config:
    """Return the checked configuration of a file's text; ``path`` names it in errors and anchors its paths."""
    try:
        file = msgspec.toml.decode(text, type=File)
    except msgspec.DecodeError as error:
        remedy = "docs/configuration.md lists every entry"
        raise ConfigurationError(str(error), where=str(path), remedy=remedy) from None
    types, products = load_builtin(), load_products()
    for name in file.meter_types:
        meter_type = load_table(path.parent / name)
        if meter_type.id in types or meter_type.id in products:
            what, remedy = f"there is a meter type '{meter_type.id}' already", "give it an id of its own"
            raise ConfigurationError(what, where=f"{path.parent / name}: [meter-type] id", remedy=remedy)
        types[meter_type.id] = meter_type
    Check(str(path), file, types).all()
    return Config(
        path=path,
        site=_site(file, types),
        sources=file.source,
        mms=file.mms,
        dlms=file.dlms,
        store=file.store,
        web=file.web,
    )


def _site(file: File, types: dict[str, MeterType]) -> Site:
    """Return the site; meters behind a concentrator have the points of the channel to them too."""
    channel = load_channels()[CHANNEL]
    concentrators = {source.name for source in file.source if isinstance(source, ConcentratorSection)}
    served = {
        (name, far): behind(types[name], channel) if far else types[name]
        for name, far in {(meter.type, meter.source in concentrators): None for meter in file.meter}
    }
    meters = tuple(
        Meter(
            id=meter.id,
            type=served[meter.type, meter.source in concentrators].id,
            ld=meter.ld,
            sap=meter.sap,
            direction=meter.direction,
            identity=identity_of(meter, types[meter.type]),
            location=meter.location,
            source=meter.source,
        )
        for meter in file.meter
    )
    return Site(
        name=file.site.name,
        ied=file.site.ied,
        meters=meters,
        types={meter_type.id: meter_type for meter_type in served.values()},
        vendor=file.site.vendor,
        revision=file.site.revision,
        time_zone=file.site.time_zone,
    )
