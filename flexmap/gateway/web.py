"""The web page for machines: ``/metrics`` (Prometheus) and ``/healthz`` (JSON)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from twisted.web import server
from twisted.web.http import Request
from twisted.web.resource import Resource


class _Metrics(Resource):
    isLeaf = True
    registry: CollectorRegistry

    def render_GET(self, request: Request) -> bytes:
        request.setHeader("content-type", CONTENT_TYPE_LATEST)
        return generate_latest(self.registry)


class _Health(Resource):
    isLeaf = True
    health: Callable[[], tuple[bool, dict[str, Any]]]

    def render_GET(self, request: Request) -> bytes:
        healthy, parts = self.health()
        request.setResponseCode(200 if healthy else 503)
        request.setHeader("content-type", "application/json")
        return msgspec.json.encode({"healthy": healthy, **parts})


class _Site(server.Site):
    noisy = False

    def log(self, request: Request) -> None:
        """Log no access: scrapers come every few seconds."""


def make_site(registry: CollectorRegistry, health: Callable[[], tuple[bool, dict[str, Any]]]) -> server.Site:
    """Return the web site; ``health`` returns whether all is well, and the parts it is made of."""
    # Any: Twisted's web classes are untyped.
    root, metrics, healthz = cast("Any", Resource)(), cast("Any", _Metrics)(), cast("Any", _Health)()
    metrics.registry, healthz.health = registry, health
    root.putChild(b"metrics", metrics)
    root.putChild(b"healthz", healthz)
    site: server.Site = cast("Any", _Site)(root)
    return site
