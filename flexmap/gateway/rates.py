"""What is served of the rates: told when anything of it changes, not with each sample."""

from __future__ import annotations

from collections.abc import Iterable

from flexmap.mapping import quality as rules
from flexmap.model import Sample, Site
from flexmap.store import Store


class ServedRates:
    """The last samples of the rates of all meters that have a tariff, by meter."""

    def __init__(self, site: Site, store: Store) -> None:
        """Begin with rates that were never read."""
        self._rates = {meter.id: rates for meter in site.meters if (rates := store.rates(meter.id)) is not None}
        self.last = {
            meter: rules.never_read(meter, len(rates.names), rates=True) for meter, rates in self._rates.items()
        }

    def of(self, samples: Iterable[Sample]) -> list[Sample]:
        """Return what the rates are at samples of meters, of those where that is something new."""
        found = []
        for sample in samples:
            rates = self._rates.get(sample.meter)
            if rates is None:
                continue
            made, last = rates.sample(sample), self.last[sample.meter]
            if (made.values, made.quality) != (last.values, last.quality):
                self.last[sample.meter] = made
                found.append(made)
        return found
