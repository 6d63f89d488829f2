"""What is served at present: the last sample of each meter, or of each channel, and which of them are old."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flexmap.mapping import quality as rules
from flexmap.model import Sample


class Present:
    """The last samples of one kind, by meter; times are those of the gateway's clock, in seconds."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        """Begin with samples of values that were never read."""
        self.last = {sample.meter: sample for sample in samples}
        self.old: set[str] = set()
        self._arrived: dict[str, float] = {}
        self._set: set[str] = set()
        """Meters whose clock was set since their last sample."""

    def fits(self, sample: Sample) -> bool:
        """Return whether a sample is of a meter that there is, with as many values as its type has points."""
        served = self.last.get(sample.meter)
        return served is not None and len(served.values) == len(sample.values) == len(sample.quality)

    def resume(self, sample: Sample) -> None:
        """Serve a sample of before as old until a new one comes."""
        self.last[sample.meter] = rules.age(sample)
        self.old.add(sample.meter)

    def take(self, sample: Sample, now: float) -> bool:
        """Serve a sample unless a newer one is there; return whether it is served.

        A sample of a channel is always of the present: whoever finds out how it is now sends no history.
        """
        follows = sample.channel or sample.time > self.last[sample.meter].time
        if not (follows or sample.meter in self.old or sample.meter in self._set):
            return False
        self.last[sample.meter] = sample
        self._arrived[sample.meter] = now
        self.old.discard(sample.meter)
        self._set.discard(sample.meter)
        return True

    def is_old(self, meter: str) -> bool:
        """Return whether the values of a meter are old."""
        return meter in self.old or meter not in self._arrived

    def clock_set(self, meter: str) -> None:
        """Take the next sample of a meter even if its time is before that of the last one."""
        self._set.add(meter)

    def lose(self, meter: str) -> Sample | None:
        """Mark the values of a meter that counts as silent; return them, None if they were marked already."""
        self.old.add(meter)
        lost = rules.lose(self.last[meter])
        if lost == self.last[meter]:
            return None
        self.last[meter] = lost
        return lost

    def age(self, now: float, limit: Callable[[str], float]) -> list[Sample]:
        """Mark the values that are older than their limit now; return those that were not marked before."""
        aged = []
        for meter, arrived in self._arrived.items():
            if meter not in self.old and now - arrived > limit(meter):
                self.old.add(meter)
                self.last[meter] = rules.age(self.last[meter])
                aged.append(self.last[meter])
        return aged
