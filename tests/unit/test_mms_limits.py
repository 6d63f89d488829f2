"""The engine's limits are checked before anything is started, each with its way out."""

import subprocess
import sys

import msgspec
import pytest

from flexmap.faces import mms_engines
from flexmap.faces.libiec61850 import limits
from flexmap.faces.mms import EngineSettings
from flexmap.mapping.table import load_builtin
from flexmap.model import ConfigurationError, Meter, Reference, Site

TYPES = load_builtin()


def site(count=1, ied="IED", ld="M{}", types=TYPES):
    meters = tuple(Meter(id=f"SM_{n}", type="single-phase", ld=ld.format(n), sap=16 + n) for n in range(count))
    return Site(name="s", ied=ied, meters=meters, types=types)


def refusal(wrong):
    with pytest.raises(ConfigurationError) as caught:
        mms_engines.check_limits("libiec61850", wrong)
    assert caught.value.remedy
    return str(caught.value)


def test_ninety_nine_meters_and_the_gateway_fit():
    mms_engines.check_limits("libiec61850", site(99))


def test_a_hundred_meters_do_not():
    text = refusal(site(100))
    assert "101 logical devices" in text
    assert "5 clients" in text
    assert "at most 99 meters" in text


def test_ied_and_device_name_share_64_characters():
    mms_engines.check_limits("libiec61850", site(ied="I" * 32, ld="L" * 32))
    assert "65 characters" in refusal(site(ied="I" * 33, ld="L" * 32))


def test_a_node_name_that_would_lose_its_values_is_named_with_its_point():
    single = TYPES["single-phase"]
    point = msgspec.structs.replace(single.points[0], reference=Reference("A" * 13 + "MMTR", "DmdWh", "BCR"))
    kind = msgspec.structs.replace(single, points=(point,))
    assert f"point {point.name}" in refusal(site(types={"single-phase": kind}))


def test_an_unknown_engine_is_named():
    with pytest.raises(ConfigurationError, match="known engines: libiec61850"):
        mms_engines.engine("other", EngineSettings())


@pytest.mark.parametrize("module", ["engine", "limits"])
def test_the_cores_side_loads_nothing_of_the_library(module):
    code = (
        f"import flexmap.faces.libiec61850.{module}, flexmap.faces.mms_client, sys; "
        "assert 'flexmap.faces.libiec61850.ctypes_api' not in sys.modules; "
        "assert 'libiec61850-' not in open('/proc/self/maps').read()"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0


def test_the_limit_of_clients_is_the_one_the_scl_document_states():
    assert limits.MAX_CLIENTS == 5
