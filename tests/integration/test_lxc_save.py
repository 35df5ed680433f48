"""Saving real containers: refused where a trial fails; and with a stand-in for CRIU, what the driver makes of saved memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lxc_kit import Node, eventually, killed_at, make_node
from vmcloud.domain.messages import Snapshot
from vmcloud.domain.vocabulary import Observed
from workers.drivers import tools
from workers.drivers.base import BadRequest, Guest, ToolFailed, Unsupported

pytestmark = pytest.mark.integration

CHECKPOINT = """#!/bin/sh
[ "$1" = --version ] && echo 5.0.2 && exit
echo "$@" >> {place}/calls
[ -e {place}/broken ] && exit 1
while [ $# -gt 0 ]; do
    case $1 in -P) guests=$2 ;; -n) native=$2 ;; -D) images=$2 ;; -s | -r) what=$1 ;; esac
    shift
done
log=$guests/$native/console.log
if [ $what = -s ]; then
    lxc-stop -k -P $guests -n $native && touch $images/inventory.img
else
    PATH=/usr/sbin:/sbin /usr/bin/lxc-start -P $guests -n $native
    until grep -q ready $log; do sleep 0.01; done
    echo went on > $log
fi
"""


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    yield from make_node()


@pytest.fixture
def guest(node: Node) -> Iterator[Guest]:
    """A running guest."""
    guest = node.guest()
    node.driver.define(guest)
    node.driver.start(guest.native)
    assert eventually(lambda: b"ready" in node.driver.boot_log(guest.native))
    yield guest
    node.driver.delete(guest.native)


@pytest.fixture
def criu(node: Node, place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a stand-in for CRIU and lxc-checkpoint. A file ``broken`` in it makes it fail."""
    for name, text in (("criu", "#!/bin/sh\necho Version: 9.9\n"), ("lxc-checkpoint", CHECKPOINT.format(place=place))):
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    (node.home / "save-trial.json").unlink(missing_ok=True)
    monkeypatch.setattr(tools, "SYSTEM_PATH", f"{place}:{tools.SYSTEM_PATH}")
    return place


def state(node: Node, guest: Guest) -> Observed:
    seen = node.driver.inspect(guest.native)
    assert seen is not None
    return seen.state


def tried(criu: Path) -> int:
    """How many trial containers were saved."""
    return sum(" -s " in line and "trial-" in line for line in (criu / "calls").read_text().splitlines())


def test_without_criu_it_is_refused_and_the_guest_runs_on(node: Node, guest: Guest, monkeypatch: pytest.MonkeyPatch):
    find = tools.find
    monkeypatch.setattr(tools, "find", lambda name: None if name == "criu" else find(name))
    check = node.driver.can_save()
    assert not check.ok and "criu is not installed" in check.detail and "apt-get install criu" in check.fix
    with pytest.raises(Unsupported, match="criu is not installed"):
        node.driver.save(guest.native)
    assert state(node, guest) is Observed.RUNNING


def test_a_failed_trial_refuses_and_is_not_made_again_for_the_same_tools(node: Node, guest: Guest, criu: Path):
    (criu / "broken").touch()
    for _ in range(2):
        check = node.driver.can_save()
        assert not check.ok and "criu 9.9" in check.detail and check.fix
    with pytest.raises(Unsupported, match="trial"):
        node.driver.save(guest.native)
    assert tried(criu) == 1
    assert state(node, guest) is Observed.RUNNING and not node.driver.saved(guest.native)
    (criu / "broken").unlink()
    (criu / "criu").write_text("#!/bin/sh\necho Version: 9.10\n")
    assert node.driver.can_save().ok
    assert tried(criu) == 2
    assert [seen.native for seen in node.driver.list()] == [guest.native]
    assert not list(node.home.glob(".save-trial*"))


def test_a_program_that_only_boots_anew_is_not_believed(node: Node, criu: Path):
    text = (criu / "lxc-checkpoint").read_text()
    (criu / "lxc-checkpoint").write_text(text.replace("echo went on > $log", ":"))
    check = node.driver.can_save()
    assert not check.ok and "booted anew" in check.detail


def test_a_saved_guest_is_stopped_and_goes_on_once(node: Node, guest: Guest, criu: Path):
    driver, native = node.driver, guest.native
    for _ in range(2):
        driver.save(native)
        assert state(node, guest) is Observed.STOPPED and driver.saved(native)
    driver.start(native)
    assert state(node, guest) is Observed.RUNNING and not driver.saved(native)
    assert driver.boot_log(native) == b"went on\n"
    driver.stop(native, force=True)
    driver.start(native)
    assert eventually(lambda: b"ready" in driver.boot_log(native))


def test_saved_memory_is_forgotten_with_its_files_or_by_force(node: Node, guest: Guest, criu: Path):
    driver, native = node.driver, guest.native
    driver.snapshot(native, Snapshot("one", 1, 1.0))
    driver.save(native)
    driver.revert(native, "one")
    assert not driver.saved(native)
    driver.start(native)
    driver.save(native)
    driver.stop(native)
    assert driver.saved(native)
    driver.stop(native, force=True)
    assert not driver.saved(native)
    assert not [path for path in node.folder(guest).iterdir() if path.name.startswith(".")]
    with pytest.raises(BadRequest, match="does not run"):
        driver.save(native)


def test_a_failure_leaves_a_running_guest_running_and_a_saved_one_saved(node: Node, guest: Guest, criu: Path):
    driver, native = node.driver, guest.native
    assert driver.can_save().ok
    (criu / "broken").touch()
    with pytest.raises(ToolFailed, match="could not save"):
        driver.save(native)
    assert state(node, guest) is Observed.RUNNING and not driver.saved(native)
    driver.freeze(native)
    with pytest.raises(BadRequest, match="Resume it first"):
        driver.save(native)
    driver.thaw(native)
    (criu / "broken").unlink()
    driver.save(native)
    (criu / "broken").touch()
    with pytest.raises(ToolFailed, match="forced stop forgets"):
        driver.start(native)
    assert state(node, guest) is Observed.STOPPED and driver.saved(native)
    (criu / "broken").unlink()
    driver.start(native)
    assert state(node, guest) is Observed.RUNNING and driver.boot_log(native) == b"went on\n"


@pytest.mark.parametrize("then", ["save", "start"])
def test_a_kill_after_the_memory_was_written(node: Node, guest: Guest, criu: Path, then: str):
    driver, native = node.driver, guest.native
    assert driver.can_save().ok
    killed_at("driver.lxc.save.dumped", node, _patched(f"save({native!r})"), criu / "faults", guest)
    assert state(node, guest) is Observed.STOPPED and not driver.saved(native)
    if then == "save":
        driver.save(native)
        assert driver.saved(native)
    driver.start(native)
    expected = b"went on" if then == "save" else b"ready"
    assert eventually(lambda: expected in driver.boot_log(native))
    assert not driver.saved(native)


def test_a_kill_while_it_goes_on_never_uses_the_memory_twice(node: Node, guest: Guest, criu: Path):
    driver, native = node.driver, guest.native
    driver.save(native)
    killed_at("driver.lxc.save.resuming", node, _patched(f"start({native!r})"), criu / "faults", guest)
    assert not driver.saved(native)
    driver.start(native)
    assert eventually(lambda: b"ready" in driver.boot_log(native))


def _patched(call: str) -> str:
    """In the process that is killed the stand-in is found, too."""
    return f"kind; from workers.drivers import tools; tools.SYSTEM_PATH = {tools.SYSTEM_PATH!r}; driver.{call}"
