"""What the gateway counts, for Prometheus; docs/operation.md lists every metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flexmap.model import EventLog

Health = Callable[[], tuple[bool, dict[str, Any]]]
"""Tells whether all is well, and of each part ``healthy`` and its figures."""

Figures = Callable[[], dict[str, float]]

GAUGES = {
    ("dlms", "connections"): ("flexmap_dlms_connections", "TCP connections open now"),
    ("dlms", "push_waiting"): ("flexmap_dlms_push_waiting", "Notifications that are not delivered yet"),
    ("mms", "clients"): ("flexmap_mms_clients", "Clients connected now"),
    ("mms", "max_clients"): ("flexmap_mms_clients_max", "Clients that the engine holds"),
}
COUNTERS = {
    ("dlms", "connections_accepted"): ("flexmap_dlms_connections_accepted", "TCP connections accepted"),
    ("dlms", "connections_refused"): ("flexmap_dlms_connections_refused", "TCP connections beyond the limit"),
    ("dlms", "associations_opened"): ("flexmap_dlms_associations_opened", "Associations opened"),
    ("dlms", "associations_refused"): ("flexmap_dlms_associations_refused", "Associations refused"),
    ("dlms", "associations_released"): ("flexmap_dlms_associations_released", "Associations released"),
    ("dlms", "associations_denied"): ("flexmap_dlms_denied", "SETs and ACTIONs without the right to them"),
    ("dlms", "associations_security_failure"): ("flexmap_dlms_security_failures", "Messages that proved nothing"),
    ("dlms", "associations_protocol_error"): ("flexmap_dlms_protocol_errors", "Messages that are malformed"),
    ("dlms", "push_sent"): ("flexmap_dlms_push_sent", "Notifications delivered"),
    ("dlms", "notifications_told"): ("flexmap_dlms_notifications", "Events told to clients that listen"),
    ("dlms", "notifications_left_out"): (
        "flexmap_dlms_notifications_left_out",
        "Events that clients were not told of: too many at once, or not taken",
    ),
    ("dlms", "push_lost"): ("flexmap_dlms_push_lost", "Notifications given up: too many waited"),
    ("mms", "restarts"): ("flexmap_mms_restarts", "Restarts of the engine's worker"),
    ("mms", "samples"): ("flexmap_mms_samples", "Samples written into the engine's model"),
    ("mms", "points"): ("flexmap_mms_points", "Points written into the engine's model"),
    ("mms", "skipped"): ("flexmap_mms_samples_skipped", "Samples that the engine has no meter for"),
    ("mms", "commands"): ("flexmap_mms_commands", "Commands of MMS clients"),
}
"""(part, figure of its health) → metric (a counter's name gets ``_total``) and its help."""


CONCENTRATOR_GAUGES = {
    "connected": "Whether there is a line to the concentrator",
    "meters": "Meters of the source that are in the PAN",
    "meters_silent": "Meters of the source that do not answer",
    "behind_seconds": "Seconds of all meters that are still to be fetched from their ring buffers",
    "round_seconds": "Time since the meter answered that has waited longest, silent ones left out",
    "clock_offset_seconds": "How far the worst of the meters' clocks was found to be off last",
}
CONCENTRATOR_COUNTERS = {
    "reads": "Readings that meters have answered",
    "shell_requests": "Lines that the concentrator's shell has taken, from anybody",
    "plc_requests": "Requests of the concentrator to meters",
    "plc_replies": "Replies of meters",
    "plc_retries": "Requests that the concentrator has repeated",
    "plc_silent": "Requests that stayed without a reply",
    "plc_octets": "Octets of the replies",
    "plc_airtime_seconds": "Time that the concentrator itself has been sending",
}
"""Figures of a source that reads a concentrator; the metric is ``flexmap_concentrator_`` and the figure's name."""


class Metrics:
    """The gateway's own metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._concentrators: dict[str, Figures] = {}
        self.accepted = self._counter("samples_accepted", "Samples taken from sources")
        self.rejected = self._counter("samples_rejected", "Samples of meters that the site does not have")
        self.events = self._counter("events", "Events of meters", log=[log.name.lower() for log in EventLog])
        self.commands = self._counter("commands", "Commands to meters", result=["done", "refused"])
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

    def add_health(self, health: Health) -> None:
        """Show the health of each part and its figures, asked for at each scrape."""
        self.registry.register(_HealthCollector(health))

    def add_concentrator(self, source: str, figures: Figures) -> None:
        """Show the figures of a source that reads a concentrator, asked for at each scrape."""
        if not self._concentrators:
            self.registry.register(_ConcentratorCollector(self._concentrators))
        self._concentrators[source] = figures

    def _counter(self, name: str, text: str, **labels: list[str]) -> Counter:
        counter = Counter(f"flexmap_{name}", text, list(labels), registry=self.registry)
        for label, values in labels.items():
            for value in values:
                counter.labels(**{label: value})  # shown as 0 before the first one
        return counter


class _HealthCollector(Collector):
    """The parts' figures as metrics."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterable[Metric]:
        """Return a metric for each figure that the tables above name."""
        parts = self._health()[1]
        healthy = GaugeMetricFamily("flexmap_healthy", "Whether a part is well", labels=["part"])
        for name, part in parts.items():
            healthy.add_metric([name], part["healthy"])
        yield healthy
        for (name, figure), (metric, text) in GAUGES.items():
            if name in parts:
                yield GaugeMetricFamily(metric, text, parts[name][figure])
        for (name, figure), (metric, text) in COUNTERS.items():
            if name in parts:
                yield CounterMetricFamily(metric, text, parts[name][figure])


class _ConcentratorCollector(Collector):
    """What sources know of their concentrators, one label each."""

    def __init__(self, sources: dict[str, Figures]) -> None:
        self._sources = sources

    def collect(self) -> Iterable[Metric]:
        """Return a metric for each figure, with a value for each source."""
        figures = {source: ask() for source, ask in self._sources.items()}
        for family, names in (
            (GaugeMetricFamily, CONCENTRATOR_GAUGES),
            (CounterMetricFamily, CONCENTRATOR_COUNTERS),
        ):
            for name, text in names.items():
                metric = family(f"flexmap_concentrator_{name}", text, labels=["source"])
                for source, its in figures.items():
                    metric.add_metric([source], its[name])
                yield metric
