"""The configuration and the secrets file: what is wrong is named, with the way out."""

import stat

import pytest

from flexmap.cli.demo import check_source
from flexmap.gateway import config as configuration
from flexmap.gateway import secrets
from flexmap.gateway.demo import CLIENTS, SECRETS, DemoOptions, write_config
from flexmap.gateway.sections import parse_endpoint
from flexmap.mapping.data import data_folder
from flexmap.model import ConfigurationError, Direction


def demo_text(**options) -> str:
    return write_config(DemoOptions(meters=2, **options))


def test_the_demo_configuration_is_a_configuration(tmp_path):
    path = tmp_path / "demo.toml"
    path.write_text(demo_text(seed=7, load='a "quoted" name.csv'))
    config = configuration.load(path)
    assert [meter.id for meter in config.site.meters] == ["SUB1", "SM0001", "SM0002"]
    assert config.site.meters[0].direction is Direction.SUPPLY
    assert config.sources[0].seed == 7
    assert config.sources[0].load == 'a "quoted" name.csv'
    assert config.dlms.client == CLIENTS
    assert set(config.site.types) == {"single-phase", "three-phase"}
    assert (config.mms.host, config.mms.port) == ("127.0.0.1", 10102)
    assert config.resolve(config.store.folder) == tmp_path / "state"


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        (('ied = "FLEXGW"', 'ied = "1GW"'), "[site] ied", "1GW"),
        (('listen = "127.0.0.1:10102"', 'listen = "localhost"'), "[mms] listen", "HOST:PORT"),
        (('listen = "127.0.0.1:4059"', 'listen = "127.0.0.1:70000"'), "[dlms] listen", "70000"),
        (('"464D580000000001"', '"464D58"'), "system_title", "eight octets"),
        (('ld = "SM0002"', 'ld = "SM0001"'), "[[meter]] 'SM0002'", "stands already in [[meter]] 'SM0001'"),
        (('id = "SM0002"', 'id = "SM0001"'), "[[meter]] 'SM0001'", "id 'SM0001'"),
        (("sap = 1002", "sap = 1001"), "[[meter]] 'SM0002'", "sap 1001"),
        (("sap = 1002", "sap = 127"), "sap", "broadcast"),
        (("sap = 1002", "sap = 1"), "sap", "1 is not a meter's server address"),
        (('ld = "SM0002"', 'ld = "GW"'), "ld", "gateway's own"),
        (('ld = "SM0002"', 'ld = "SM 2"'), "ld", "SM 2"),
        (('type = "three-phase"', 'type = "four-phase"'), "[[meter]] 'SUB1' type", "four-phase"),
        (('source = "simulation"', 'source = "nowhere"'), "source", "nowhere"),
        (("serial-number = ", "serial = "), "identity", "'serial' is not known"),
        (('authentication = "lls"', 'authentication = "none"'), "[[dlms.client]] 'reader-lls'", "without auth"),
        (('access = "public"', 'access = "root"'), "demo.toml", "root"),
        (('access = "public"', 'access = "public"\nnotify = ["fraud"]'), "'public' notify", "may not read events"),
        (('access = "read"', 'access = "read"\nnotify = ["gossip"]'), "demo.toml", "gossip"),
        (
            ('access = "manage"', 'access = "manage"\nthird_parties = ["4D4D"]'),
            "'management' third_parties",
            "not the system title",
        ),
        (
            ('access = "manage"', 'access = "manage"\nthird_parties = ["4D4D4D0000BC614E"]'),
            "'management' third_parties",
            "suite 0",
        ),
        (("sap = 18", "sap = 2"), "[[dlms.client]] 'reader-lls'", "client sap 2"),
        (("sap = 18", "sap = 0"), "sap", "0 is not a client address"),
        (('kind = "simulation"', 'kind = "magic"'), "demo.toml", "magic"),
        (("[web]", '[web]\ncolour = "red"'), "demo.toml", "colour"),
        (("[site]", "[site"), "demo.toml", ""),
        (('direction = "supply"', 'direction = "up"'), "demo.toml", "up"),
        (('listen = "127.0.0.1:10102"', 'listen = "127.0.0.1:0"'), "[mms] listen", "port 0"),
        (("revision = 1", "revision = 0"), "$.site.revision", ">= 1"),
        (("idle_timeout = 180.0", "idle_timeout = 0.0"), "$.dlms.idle_timeout", "> 0"),
        (("samples_days = 7.0", "samples_days = nan"), "$.store.retention.samples_days", ">= 0"),
        (("pv_share = 0.25", "pv_share = 7"), "$.source[0].pv_share", "<= 1"),
        (("max_age = 5.0", "max_age = inf"), "$.source[0].max_age", "<= 86400"),
        (('name = "Demo substation"', 'name = ""'), "$.site.name", "length >= 1"),
        (('"FMX0000000001001"', '"FMX00000000001001"'), "[[meter]] 'SM0001' identity", "at most 16"),
        (('"FMX0000000001001"', '"FMX0000000001000"'), "[[meter]] 'SM0001'", "device-name"),
        (('serial-number = "FMSP0001"', 'serial-number = "Zähler"'), "[[meter]] 'SM0001' identity", "Zähler"),
    ],
)
def test_mistakes_are_named(tmp_path, change, where, what):
    text = demo_text()
    assert change[0] in text
    with pytest.raises(ConfigurationError) as caught:
        configuration.parse(text.replace(*change), tmp_path / "demo.toml")
    assert where in str(caught.value)
    assert what in str(caught.value)


def test_a_missing_file_names_the_way_out(tmp_path):
    with pytest.raises(ConfigurationError, match="write-config"):
        configuration.load(tmp_path / "none.toml")


def test_meters_behind_a_concentrator_have_the_points_of_the_channel(tmp_path):
    near, far = (
        configuration.parse(text, tmp_path / "demo.toml").site
        for text in (demo_text(), demo_text(port="pty:shell"))
    )
    assert set(near.types) == {"single-phase", "three-phase"}
    assert set(far.types) == {"single-phase-g3-plc", "three-phase-g3-plc"}
    assert all(near.type_of(meter).live is None for meter in near.meters)
    assert all(far.type_of(meter).live is not None for meter in far.meters)


def test_own_meter_types_are_loaded_beside_the_configuration(tmp_path):
    with pytest.raises(ConfigurationError, match=r"mine\.toml: cannot read"):
        configuration.parse('meter_types = ["mine.toml"]\n' + demo_text(), tmp_path / "demo.toml")


def test_an_own_meter_type_takes_no_id_that_is_there(tmp_path):
    (tmp_path / "mine.toml").write_bytes((data_folder("obis") / "single-phase.toml").read_bytes())
    with pytest.raises(ConfigurationError, match=r"mine\.toml: \[meter-type\] id: .*'single-phase'"):
        configuration.parse('meter_types = ["mine.toml"]\n' + demo_text(), tmp_path / "demo.toml")


@pytest.mark.parametrize("text", ["[::1]:4059", "127.0.0.1:0", "localhost:65535", "0.0.0.0:1"])
def test_endpoints(text):
    endpoint = parse_endpoint(text, "here")
    assert str(endpoint).endswith(text.rpartition(":")[2])


def config_with_secrets(tmp_path):
    config = configuration.parse(demo_text(), tmp_path / "demo.toml")
    return config, tmp_path / "secrets.toml"


def test_secrets_round_trip_with_mode_0600(tmp_path):
    config, path = config_with_secrets(tmp_path)
    secrets.write(path, SECRETS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secrets.load(config) == SECRETS
    with pytest.raises(ConfigurationError, match="is there already"):
        secrets.write(path, SECRETS)


def test_secrets_that_others_can_read_are_refused(tmp_path):
    config, path = config_with_secrets(tmp_path)
    secrets.write(path, SECRETS)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        secrets.load(config)


def test_missing_and_short_secrets_are_named(tmp_path):
    config, path = config_with_secrets(tmp_path)
    with pytest.raises(ConfigurationError, match="'reader' needs it"):
        secrets.load(config)
    for name, secret, what in (
        ("reader", secrets.Secret(encryption_key="00", authentication_key="00" * 16), "encryption_key"),
        ("reader", secrets.Secret(encryption_key="00" * 16), "authentication_key"),
        ("reader-lls", secrets.Secret(password="short"), "password"),
    ):
        path.unlink(missing_ok=True)
        secrets.write(path, {**SECRETS, name: secret})
        with pytest.raises(ConfigurationError, match=what):
            secrets.load(config)


def test_fresh_secrets_differ_and_are_not_shown():
    gmac, lls = CLIENTS[1], CLIENTS[3]
    assert secrets.fresh(gmac) != secrets.fresh(gmac)
    assert len(secrets.fresh(lls).password) >= 12
    assert SECRETS["reader"].encryption_key not in repr(SECRETS["reader"])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (
            lambda text: text.replace("101112131415161718191A1B1C1D1E1F", "000102030405060708090a0b0c0d0e0f"),
            "reader",
        ),
        (lambda text: text.replace("reader-lls", "\xff"), "utf-8"),
    ],
)
def test_secrets_that_would_not_keep_clients_apart_or_are_no_text(tmp_path, change, what):
    config = configuration.parse(demo_text(), tmp_path / "demo.toml")
    file = tmp_path / "secrets.toml"
    secrets.write(file, SECRETS)
    assert set(secrets.load(config)) == set(SECRETS)
    file.write_bytes(change(file.read_text()).encode("latin-1"))
    with pytest.raises(ConfigurationError, match=what) as refused:
        secrets.load(config)
    assert "0c0d0e" not in str(refused.value).lower()


def test_a_demos_folder_keeps_to_its_source(tmp_path):
    """Meters of the other source have other registers: the store would mix them."""
    path = tmp_path / "demo.toml"
    model, concentrator = (configuration.parse(demo_text(port=port), path) for port in ("", "pty:shell"))
    check_source(model)
    for old, new in ((model, concentrator), (concentrator, model)):
        path.write_text(demo_text(port="" if old is model else "pty:shell"))
        check_source(old)
        with pytest.raises(ConfigurationError, match=r"--state: holds the registers of other meters"):
            check_source(new)
