"""Talks to a concentrator's shell and ends: for commands of the command line."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.posixbase import PosixReactorBase
from twisted.python.failure import Failure

from flexmap.model import RemoteError
from flexmap.sources.concentrator.link import Link
from flexmap.sources.concentrator.port import Port, connect
from flexmap.sources.interface import Clock

Talk = Callable[[Link, Clock], Coroutine[Deferred[Any], Any, None]]


def converse(port: Port, password: str, talk: Talk) -> None:
    """Connect to a shell, log in where that is due, talk; raises FlexmapError. Runs the reactor: once only."""
    reactor: Any = cast("PosixReactorBase", global_reactor)
    failures: list[BaseException] = []

    def finished(result: object) -> None:
        if isinstance(result, Failure) and result.value is not None:
            failures.append(result.value)
        if reactor.running:
            reactor.stop()

    async def begin(link: Link) -> None:
        await link.hello(password)
        await talk(link, reactor)

    def made(link: Link) -> None:
        Deferred.fromCoroutine(begin(link)).addBoth(finished)

    def start() -> None:
        link = Link(reactor, 0, made, lambda _cause: None, lambda _line: None)
        try:
            connect(reactor, port, link).addErrback(finished)
        except RemoteError as error:
            finished(Failure(error))

    reactor.callWhenRunning(start)
    reactor.run()
    if failures:
        raise failures[0]
