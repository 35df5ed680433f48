"""What `vmcloud down --purge` looks at before it removes anything; and how the web part is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vmcloud.config import Config, NodeSettings
from vmcloud.domain.errors import Unavailable
from vmcloud.domain.vocabulary import Kind, Observed
from vmcloud.local import purge
from workers.drivers.base import DriverError

pytestmark = pytest.mark.unit


class Driver:
    """Lists and removes folders."""

    stuck = broken = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def list(self) -> list[Any]:
        from vmcloud.domain.messages import Seen

        if self.broken:
            raise DriverError("can-not-look", "it can not look")
        return [Seen(path.name, Kind.LXC, Observed.RUNNING) for path in sorted(self.folder.iterdir())]

    def delete(self, native: str) -> None:
        if not self.stuck:
            (self.folder / native).rmdir()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A cloud whose node was called ``old`` when its guest was made, and is simulated now."""
    data = tmp_path / "data"
    (data / "node" / "old" / "lxc" / "web-1").mkdir(parents=True)
    monkeypatch.setattr(purge, "make_driver", lambda kind, config, name: Driver(config.node_home(name) / kind.value))
    monkeypatch.setattr(purge, "_end_monitors", lambda data: None)
    return Config(data=data, node=NodeSettings(name="new", kinds=("simulated",), simulate=3))


def test_guests_of_a_renamed_node_are_removed_before_their_disks(config: Config) -> None:
    assert "1 guest of this machine" in purge.announcement(config)
    said: list[str] = []
    purge.purge(config, said.append)
    assert "removed guest web-1" in said and not config.data.exists()


@pytest.mark.parametrize("fault", ["stuck", "broken"])
def test_nothing_is_removed_while_a_guest_is_left(config: Config, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr(Driver, fault, True)
    with pytest.raises(Unavailable):
        purge.purge(config, lambda line: None)
    assert (config.data / "node" / "old" / "lxc" / "web-1").is_dir()


def test_the_web_part_believes_no_header_about_addresses(tmp_path: Path) -> None:
    from vmcloud.local import parts

    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "supervisor.json").write_text(json.dumps({"broker_password": "x"}))
    assert "--no-proxy-headers" in parts.catalogue(Config(data=tmp_path))["web"].argv
