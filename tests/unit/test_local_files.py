"""Settings, secrets and the broker's files: what the first start makes."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path

import pytest

from vmcloud.config import Config
from vmcloud.dispatch import acl
from vmcloud.domain.errors import Conflict, Invalid
from vmcloud.local import broker, database, layout, nodes, secrets, settings
from vmcloud.local.settings import Wishes, parse_listen

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def nobody_is_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests run on laptops: all files stay ours."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def free(port: int) -> bool:
    return False


def test_first_settings_are_what_config_reads(tmp_path: Path) -> None:
    config, notes = settings.ensure(tmp_path, Wishes(), hostname="Rack-1.example.org", taken=free)
    assert (config.node.name, config.web_port, config.web_url) == ("rack-1", 8470, "http://127.0.0.1:8470")
    assert config.broker_url == "redis://127.0.0.1:8471/0"
    assert config.directory_uri == "ldap://127.0.0.1:8472"
    assert notes == []
    assert mode(tmp_path / "config.toml") == 0o644


def test_taken_ports_are_stepped_over_and_told() -> None:
    text, notes = settings.render(Wishes(), hostname="n", taken=lambda port: port in (8470, 8471, 8473))
    table = tomllib.loads(text)
    assert table["web_port"] == 8472
    assert table["broker_url"].endswith(":8474/0")
    assert table["directory_uri"].endswith(":8475")
    assert len(notes) == 3


def test_settings_are_made_once(tmp_path: Path) -> None:
    settings.ensure(tmp_path, Wishes(name="one"), taken=free)
    with pytest.raises(Conflict, match=r"--name.*made with 'one'"):
        settings.ensure(tmp_path, Wishes(name="two"), taken=free)
    config, _ = settings.ensure(tmp_path, Wishes(name="one", listen="127.0.0.1"), taken=free)
    assert config.node.name == "one"


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(name="../x"),
        Wishes(bridge="a" * 16),
        Wishes(bridge="a;b"),
        Wishes(subnet="10.0.0.0/30"),
        Wishes(subnet="nonsense"),
        Wishes(listen="somewhere"),
        Wishes(listen="127.0.0.1:99999"),
        Wishes(simulate=10000),
    ],
)
def test_bad_wishes_are_refused_in_words(wishes: Wishes, tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        settings.ensure(tmp_path, wishes, taken=free)
    assert not (tmp_path / "config.toml").exists()


def test_simulated_nodes_have_numbered_names(tmp_path: Path) -> None:
    config, _ = settings.ensure(tmp_path, Wishes(name="sim", simulate=3), taken=free)
    assert config.node.kinds == ("simulated",)
    assert len(config.node.names) == 3
    assert all(name.startswith("sim-") for name in config.node.names)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.0.0.0", ("0.0.0.0", 0)), ("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:81", ("::1", 81)), ("::1", ("::1", 0))],
)
def test_listen_takes_addresses_with_and_without_port(text: str, expected: tuple[str, int]) -> None:
    assert parse_listen(text) == expected


@pytest.mark.parametrize(
    ("hostname", "label"),
    [("web.example.org", "web"), ("Big_Box", "big-box"), ("---", "node"), ("x" * 80, "x" * 63), ("localhost", "localhost")],
)
def test_host_names_become_labels(hostname: str, label: str) -> None:
    assert nodes.label(hostname) == label


def test_secrets_are_made_once_each_readable_by_one_user(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    secrets.ensure(tmp_path, "vmcloud", ["n1"])
    files = sorted((tmp_path / "secrets").iterdir())
    assert [file.name for file in files] == [
        "monitor.json",
        "node-n1.json",
        "reader.json",
        "server.json",
        "supervisor.json",
        "web.json",
    ]
    assert {mode(file) for file in files} == {0o600}
    before = {file.name: file.read_text() for file in files}
    secrets.ensure(tmp_path, "vmcloud", ["n1", "n2"])
    assert {name: (tmp_path / "secrets" / name).read_text() for name in before} == before
    assert secrets.load(tmp_path, "node-n2")["server_public_key"] == secrets.load(tmp_path, "server")["public_key"]
    assert secrets.load(tmp_path, "web")["secret_key"] == secrets.load(tmp_path, "server")["secret_key"]
    assert "private_key" not in before["web.json"] + before["node-n1.json"]


def test_each_part_with_the_job_database_gets_the_password_as_libpq_wants_it(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    config = Config(data=tmp_path)
    config.passfile.write_text("h:5432:jobs:vmcloud:secret\n")
    database.check(config)
    for part in ("web", "server"):
        assert config.passfile_of(part).read_text() == config.passfile.read_text() and mode(config.passfile_of(part)) == 0o600
    config.passfile.unlink()
    database.check(config)
    assert not config.passfile_of("web").exists()


def test_the_reader_has_no_broker_user_and_nodes_none_in_the_directory(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    secrets.ensure(tmp_path, "vmcloud", ["n1"])
    assert sorted(secrets.broker_passwords(tmp_path, ["n1"])) == ["monitor", "node-n1", "server", "supervisor", "web"]
    assert sorted(secrets.directory_passwords(tmp_path)) == ["monitor", "reader", "server", "web"]


def test_broker_users_that_the_server_added_are_kept() -> None:
    existing = "user default on nopass ~* +@all\nuser node-far on #aa -@all\nuser web on #old -@all\n"
    merged = broker.merge_users(existing, {"web": "new", "monitor": "m"}).splitlines()
    assert merged[0] == acl.NOBODY
    assert [line.split()[1] for line in merged] == ["default", "monitor", "node-far", "web"]
    assert "user node-far on #aa -@all" in merged
    assert not any("#old" in line or "nopass" in line for line in merged)


def test_broker_keeps_what_it_was_told(tmp_path: Path) -> None:
    lines = broker.settings(tmp_path, "127.0.0.1", 1234).splitlines()
    for line in ("bind 127.0.0.1", "port 1234", "appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction"):
        assert line in lines


def test_foreign_folders_are_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(Invalid, match="not empty"):
        layout.make(tmp_path, "vmcloud")
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_folders_have_their_modes(tmp_path: Path) -> None:
    layout.make(tmp_path / "data", "vmcloud")
    assert mode(tmp_path / "data") == 0o711
    found = {str(entry.relative_to(tmp_path / "data")): mode(entry) for entry in (tmp_path / "data").rglob("*") if entry.is_dir()}
    assert {folder.name: folder.mode for folder in layout.folders("vmcloud")} == found


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x"
    layout.write(target, "old")

    def fail(path: Path, user: str, mode: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(layout, "own", fail)
    with pytest.raises(OSError, match="disk full"):
        layout.write(target, "new")
    assert target.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_env_lines_survive_the_shell(tmp_path: Path) -> None:
    from vmcloud.local import environment

    config = Config(data=tmp_path, suffix="dc=o'brien,dc=x")
    lines = environment.exports(config, root=False).splitlines()
    assert "export LDAPURI=ldap://127.0.0.1:8472" in lines
    assert lines[-1] == """export LDAPBASE='dc=o'"'"'brien,dc=x'"""
    assert not any("TOKEN" in line or "SASL" in line for line in lines)


def test_env_of_root_names_the_local_socket_and_the_token(tmp_path: Path) -> None:
    from vmcloud.local import environment

    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "admin-token").write_text("t0ken\n")
    found = environment.variables(Config(data=tmp_path), root=True)
    assert found["VMCLOUD_TOKEN"] == "t0ken"
    assert found["LDAPSASL_MECH"] == "EXTERNAL"
    assert found["LDAPURI"].startswith("ldapi://%2F")
    assert "/" not in found["LDAPURI"].removeprefix("ldapi://")


def test_status_file_survives_rubbish(tmp_path: Path) -> None:
    from vmcloud.local import status

    (tmp_path / "run").mkdir()
    assert status.read(tmp_path) is None
    for rubbish in ("", "{", "[]", json.dumps({"supervisor": {}})):
        status.path(tmp_path).write_text(rubbish)
        assert status.read(tmp_path) is None


def test_mounts_below_a_folder_deepest_first() -> None:
    from vmcloud.local.purge import mounts_below

    text = "\n".join(
        f"36 35 98:0 / {point} rw master:1 - ext4 /dev/x rw"
        for point in ("/", "/data", "/data/node/a", "/data/node/a/lxcfs", "/database", "/data/with\\040blank")
    )
    assert mounts_below(Path("/data"), text) == ["/data/node/a/lxcfs", "/data/with blank", "/data/node/a"]
