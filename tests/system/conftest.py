"""Fixtures of the system tests."""

import contextlib
import subprocess

import pytest


@pytest.fixture
def processes():
    started = []
    yield started
    for process in started:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.end()
        if process.process.poll() is None:
            process.process.kill()
