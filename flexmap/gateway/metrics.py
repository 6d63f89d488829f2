"""What the gateway counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """The gateway's own metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.accepted = self._counter("samples_accepted", "Samples taken from sources")
        self.rejected = self._counter("samples_rejected", "Samples of meters that the site does not have")
        self.events = Counter("flexmap_events", "Events of meters", ["log"], registry=self.registry)
        self.commands = Counter("flexmap_commands", "Commands to meters", ["result"], registry=self.registry)
        self.old = Gauge("flexmap_meters_old", "Meters whose values are old", registry=self.registry)
        self.latency = Histogram(
            "flexmap_sample_latency_seconds",
            "From a sample's own time to its hand-over to every face",
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
            registry=self.registry,
        )
        self.tick = Histogram(
            "flexmap_reactor_lag_seconds",
            "How late the reactor runs a timer",
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
            registry=self.registry,
        )

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"flexmap_{name}", text, registry=self.registry)
