"""What a web part that was taken over can not do: be the server or the monitor, sign an order, or come to more rights."""

from __future__ import annotations

import grp
import json
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud import Cloud, cloud
from vmcloud.config import PARTS_WITH_USER, part_user
from vmcloud.local import layout

pytestmark = [pytest.mark.integration, pytest.mark.skipif(os.geteuid() != 0, reason="only root has other users")]

USER = "vmcloud"


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=1) as made:
        yield made


def runs(running: Cloud, part: str) -> dict[str, str]:
    lines = Path(f"/proc/{running.parts()[part]['pid']}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def tried(part: str, code: str, data: Path) -> str:
    """What a program says that runs as the user of ``part``."""
    entry = pwd.getpwnam(part_user(USER, part))
    done = subprocess.run(
        [sys.executable, "-c", code, str(data)],
        user=entry.pw_uid,
        group=entry.pw_gid,
        extra_groups=os.getgrouplist(entry.pw_name, entry.pw_gid),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


READ = "import sys, pathlib; print(len(pathlib.Path(sys.argv[1], 'secrets', '{}').read_text()) > 0)"


@pytest.mark.parametrize("part", PARTS_WITH_USER)
@pytest.mark.parametrize("other", [*PARTS_WITH_USER, "reader", "supervisor", "node-n-001"])
def test_no_part_reads_the_secrets_of_another(running: Cloud, part: str, other: str) -> None:
    said = tried(part, READ.format(f"{other}.json"), running.data)
    assert said == "True" if part == other else said.startswith("PermissionError"), said


def test_each_part_runs_as_a_user_of_its_own_that_can_signal_and_trace_no_other(running: Cloud) -> None:
    users = {part: int(runs(running, part)["Uid"].split()[0]) for part in PARTS_WITH_USER}
    assert users == {part: pwd.getpwnam(part_user(USER, part)).pw_uid for part in PARTS_WITH_USER}
    server = running.parts()["server"]["pid"]
    for attempt in ("import os; os.kill({}, 0)", "open('/proc/{}/mem', 'rb')", "open('/proc/{}/environ').read()"):
        assert "Error" in tried("web", attempt.format(server), running.data)


@pytest.mark.parametrize("part", ["web", "server", "monitor", "broker", "directory"])
def test_a_part_comes_to_no_other_rights(running: Cloud, part: str) -> None:
    found = runs(running, part)
    assert found["NoNewPrivs"] == "1"
    assert int(found["CapBnd"], 16) == int(found["CapEff"], 16) == int(found["CapPrm"], 16) == 0


def test_the_monitor_can_not_open_the_job_database_and_web_and_server_can(running: Cloud) -> None:
    look = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1] + '/sql/vmcloud.sqlite3'); d.execute('BEGIN IMMEDIATE')"
    look += "; print('in')"
    if running.database:
        pytest.skip("jobs are elsewhere")
    assert [tried(part, look, running.data) for part in ("web", "server")] == ["in", "in"]
    assert "unable to open" in tried("monitor", look, running.data)
    found = running.data / "sql" / "vmcloud.sqlite3"
    assert stat.S_IMODE(found.stat().st_mode) == 0o660 and found.stat().st_gid == grp.getgrnam(USER).gr_gid
    wal = found.with_name(f"{found.name}-wal").stat()
    assert stat.S_IMODE(wal.st_mode) == 0o660 and wal.st_gid == grp.getgrnam(USER).gr_gid


def as_before(data: Path) -> None:
    """Make a stopped cloud's files what the release before made them: all of them of one user."""
    entry = pwd.getpwnam(USER)
    for place in (data / "sql", data / "images", *(data / "sql").iterdir(), *(data / "images").iterdir()):
        os.chown(place, entry.pw_uid, entry.pw_gid)
    (data / "sql").chmod(0o700)
    for file in (data / "sql").iterdir():
        file.chmod(0o644)
    for part in PARTS_WITH_USER:
        os.chown(data / "secrets" / f"{part}.json", entry.pw_uid, entry.pw_gid)
    (data / "secrets" / "supervisor.json").unlink()
    users = data / "broker" / "users.acl"
    kept = [line for line in users.read_text().splitlines() if not line.startswith("user supervisor ")]
    kept = [f"{line} +acl|setuser +acl|deluser +acl|save" if line.startswith("user server ") else line for line in kept]
    users.write_text("\n".join(kept) + "\n")


def test_a_cloud_of_the_release_before_is_taken_over_with_its_guests() -> None:
    with cloud(simulate=1) as made:
        made.image()
        job = made.ask("POST", "/ves", {"name": "web-1", "kind": "simulated", "image": "busybox", "memory_mib": 64})
        made.wait(job.get("job", job))
        made.down()
        before = made.simulated_guests()
        as_before(made.data)
        made.up()
        made.nodes_up()
        assert made.simulated_guests() == before and len(before) == 1
        made.wait(made.ask("POST", "/ves/web-1/stop", {}))
        made.check_truths()
        owners = {part: (made.data / "secrets" / f"{part}.json").stat().st_uid for part in PARTS_WITH_USER}
        assert owners == {part: pwd.getpwnam(part_user(USER, part)).pw_uid for part in PARTS_WITH_USER}
        assert "+acl|setuser" not in (made.data / "broker" / "users.acl").read_text()


def test_taking_over_follows_no_link_that_a_part_has_put_there(place: Path) -> None:
    """The folder of images is the web part's: what it plants there must not become its own."""
    layout.ensure_users(USER)
    data, precious = place / "d", place / "precious"
    layout.make(data, USER)
    precious.write_text(json.dumps("root's own"))
    precious.chmod(0o600)
    for folder in ("images", "sql"):
        (data / folder / "soft").symlink_to(precious)
        os.link(precious, data / folder / "hard")
    layout.make(data, USER)
    assert (precious.stat().st_uid, stat.S_IMODE(precious.stat().st_mode)) == (0, 0o600)
