"""The cloud with real containers, from one end to the other: what a person types is what runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cloud import SOURCE, Cloud, cloud
from tests.ldap_tools import Tools, entry, refused, settled
from vmcloud.config import Config
from workers.storage.busybox import build_busybox

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    node = 'bridge = "vcsc0"\nsubnet = "10.213.88.0/24"'
    archive = tmp_path_factory.mktemp("image") / "busybox.tar"
    build_busybox(archive)
    # Slow lists: what these tests see quickly they see by events, not by the next full list.
    with cloud(simulate=0, node=node, intervals={"relist": 20.0, "node_down": 60.0}) as made:
        made.run("image", "import", "busybox", str(archive), "--wait")
        yield made


def lxc(running: Cloud, tool: str, *arguments: str) -> str:
    """A tool of LXC itself, behind the cloud's back."""
    path = Config.load(running.data).node_home("n") / "lxc"
    done = subprocess.run([tool, "-P", str(path), *arguments], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def native(running: Cloud, name: str) -> str:
    return f"{name}-{running.ves()[name]['id'][:8]}"


def create(running: Cloud, name: str, *more: str) -> dict[str, Any]:
    running.run("ve", "create", name, "--image", "busybox", "--memory", "64", "--wait", *more)
    return running.ves()[name]


def init_pid(running: Cloud, name: str) -> int:
    return int(lxc(running, "lxc-info", "-n", native(running, name), "-p", "-H"))


def frozen(pid: int) -> bool:
    """What the kernel says of a process's control group (liblxc knows only of freezes that it did itself)."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if "freezer" in controllers:
            return Path(f"/sys/fs/cgroup/freezer{group}/freezer.state").read_text().strip() == "FROZEN"
    unified = Path("/sys/fs/cgroup") / group.lstrip("/")
    return "frozen 1" in (unified / "cgroup.events").read_text()


def test_a_life_of_a_container(running: Cloud) -> None:
    """Create, reach, suspend, resume, resize, restart, stop, start, delete; each shown as it really is."""
    shown = create(running, "life")
    assert shown["status"] == "running"
    assert "RUNNING" in lxc(running, "lxc-info", "-n", native(running, "life"), "-s")
    (address,) = shown["addresses"]
    assert address.startswith("10.213.88.")
    lxc(running, "lxc-attach", "-n", native(running, "life"), "--", "ping", "-c", "1", "-W", "5", "10.213.88.1")
    pid = init_pid(running, "life")
    assert int(Path(f"/proc/{pid}/status").read_text().split("Uid:")[1].split()[0]) >= 100000, "its root is nobody here"
    running.run("ve", "suspend", "life", "--wait")
    assert running.ves()["life"]["status"] == "suspended"
    assert frozen(pid)
    running.run("ve", "resume", "life", "--wait")
    assert running.ves()["life"]["status"] == "running"
    running.run("ve", "resize", "life", "--memory", "48", "--wait")
    assert running.ves()["life"]["memory_mib"] == 48
    assert init_pid(running, "life") == pid, "resized while it ran"
    running.run("ve", "restart", "life", "--wait")
    assert running.ves()["life"]["status"] == "running"
    assert init_pid(running, "life") != pid
    running.run("ve", "stop", "life", "--wait")
    assert running.ves()["life"]["status"] == "stopped"
    assert "STOPPED" in lxc(running, "lxc-info", "-n", native(running, "life"), "-s")
    running.run("ve", "start", "life", "--wait")
    assert running.ves()["life"]["status"] == "running"
    folder = Config.load(running.data).node_home("n") / "lxc" / native(running, "life")
    assert folder.exists()
    running.run("ve", "delete", "life", "--wait")
    assert "life" not in running.ves()
    assert not folder.exists()
    assert running.directory().ve_named("main", "life") is None


def test_a_containers_snapshots_and_what_it_uses(running: Cloud) -> None:
    create(running, "kept")
    running.run("ve", "exec", "kept", "--", "sh", "-c", "echo one > /root/note; sync")
    running.run("ve", "snapshot", "kept", "first", "--wait")
    running.run("ve", "exec", "kept", "--", "sh", "-c", "echo two > /root/note; sync")
    pid = init_pid(running, "kept")
    running.run("ve", "revert", "kept", "first", "--wait")
    assert running.ves()["kept"]["status"] == "running" and init_pid(running, "kept") != pid
    assert running.run("ve", "exec", "kept", "--", "cat", "/root/note").stdout == "one\n"
    assert [each["name"] for each in running.ves()["kept"]["snapshots"]] == ["first"]
    used = running.until(lambda: running.ask("GET", "/ves/kept/usage")["usage"], 45, "a measurement")
    assert 0 < used["memory_bytes"] <= 64 << 20 and used["processes"] >= 1
    running.run("ve", "delete-snapshot", "kept", "first", "--wait")
    assert running.ves()["kept"]["snapshots"] == []
    running.run("ve", "delete", "kept", "--wait")


def test_what_happens_behind_the_clouds_back_is_seen_within_a_second(running: Cloud) -> None:
    create(running, "back", "--restart", "never")
    begin = time.monotonic()
    lxc(running, "lxc-stop", "-n", native(running, "back"), "-k")
    running.until(lambda: running.ves()["back"]["observed"] in ("stopped", "crashed"), 5, "the stop to be seen")
    assert time.monotonic() - begin < 3, "an event told it, not the list of every 20 s"
    running.run("ve", "delete", "back", "--wait")


def test_a_killed_container_is_started_again(running: Cloud) -> None:
    """Restart policy on-failure: a crash or kill is mended by a job of reconcile's, which says so."""
    first = create(running, "phoenix")["since"]
    time.sleep(1.1)
    os.kill(init_pid(running, "phoenix"), signal.SIGKILL)

    def back() -> bool:
        jobs = running.ask("GET", "/jobs?ve=phoenix")["items"]
        return any(each["origin"] == "reconcile:R1" for each in jobs) and running.ves()["phoenix"]["status"] == "running"

    running.until(back, 20, "phoenix to be back")
    assert running.ves()["phoenix"]["since"] > first, "it runs since it was started again"
    running.run("ve", "delete", "phoenix", "--wait")


def test_down_leaves_guests_running_and_up_finds_them(running: Cloud) -> None:
    create(running, "stay")
    pid = init_pid(running, "stay")
    running.down()
    assert Path(f"/proc/{pid}").exists()
    running.up()
    running.nodes_up()
    assert running.ves()["stay"]["status"] == "running"
    assert init_pid(running, "stay") == pid
    running.run("ve", "delete", "stay", "--wait")


def test_a_failing_create_leaves_nothing(running: Cloud) -> None:
    """An image that is no archive: refused by the node that unpacks it, with its words; name, entry, guest are free again."""
    running.wait(running.ask("PUT", "/images/broken", b"this is no archive"))
    done = running.run("ve", "create", "lame", "--image", "broken", "--wait", check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "lame" not in running.ves()
    assert running.directory().ve_named("main", "lame") is None
    assert not list((Config.load(running.data).node_home("n") / "lxc").glob("lame-*"))


@pytest.mark.parametrize(
    "point", ["driver.lxc.define.cloned", "driver.lxc.start.ordered", "driver.lxc.delete.stopped", "worker.step.acted"]
)
def test_kill_inside_the_driver(running: Cloud, point: str) -> None:
    """The child that drives the hypervisor dies in the middle: the step is done again and ends as it should, once."""
    running.break_at(point)
    name = f"k{point.rpartition('.')[2]}"
    create(running, name)
    assert running.ves()[name]["status"] == "running"
    running.run("ve", "delete", name, "--wait")
    assert running.broke_at(point)
    assert name not in running.ves()
    home = Config.load(running.data).node_home("n") / "lxc"
    assert not list(home.glob(f"{name}-*"))
    assert f"{home}/" not in Path("/proc/self/mounts").read_text()


def test_console_program_and_boot_log_of_a_container(running: Cloud) -> None:
    create(running, "talk")
    done = running.run("ve", "exec", "talk", "--", "sh", "-c", "hostname; id -u; echo wrong >&2; exit 7", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "talk\n0\n", "wrong\n")
    assert running.run("ve", "exec", "talk", "--", "-e", check=False).returncode == 127, "what follows -- is the program's"
    assert running.run("ve", "exec", "-e", "A=b c", "talk", "--", "sh", "-c", 'echo "$A"').stdout == "b c\n"
    assert "vmcloud: talk ready" in running.run("ve", "logs", "talk").stdout
    assert "console-42" in running.run("ve", "console", "talk", stdin="\necho console-$((40+2))\n").stdout
    assert "console-42" in running.run("ve", "logs", "talk").stdout
    running.run("ve", "suspend", "talk", "--wait")
    refused = running.run("ve", "exec", "talk", "true", check=False)
    assert refused.returncode == 125 and "suspended" in refused.stderr
    running.run("ve", "delete", "talk", "--wait")


@pytest.mark.parametrize("who", ["person", "worker"])
def test_who_is_gone_leaves_no_program_behind(running: Cloud, who: str) -> None:
    create(running, f"left-{who}")
    environment = {**os.environ, "VMCLOUD_DATA": str(running.data), "PYTHONPATH": str(SOURCE)}
    argv = [sys.executable, "-m", "vmcloud.cli", "ve", "exec", f"left-{who}", "--", "sleep", "4242"]
    null = subprocess.DEVNULL
    with subprocess.Popen(argv, stdin=null, stdout=null, stderr=null, env=environment) as person:
        guest = native(running, f"left-{who}")

        def sleeps() -> bool:
            return "sleep 4242" in lxc(running, "lxc-attach", "-n", guest, "--", "ps")

        running.until(sleeps, 10, "the program to run")
        if who == "person":
            person.kill()
        else:
            running.signal("worker", signal.SIGKILL)
        running.until(lambda: not sleeps(), 10, "the program to end")
        if who == "worker":
            assert person.wait(20) == 125
    running.nodes_up()
    assert running.ves()[f"left-{who}"]["status"] == "running"
    running.run("ve", "delete", f"left-{who}", "--wait")


def test_any_ldap_tool_drives_a_container(running: Cloud) -> None:
    """Stopped, resized, started and deleted by ldapmodify and ldapvi; what can not be is undone and explained."""
    tools = Tools(running)
    create(running, "by-ldap")
    name, pid = native(running, "by-ldap"), init_pid(running, "by-ldap")
    tools.modify("by-ldap", vmcDesiredState="stopped")
    assert [(each["verb"], each["outcome"]) for each in settled(running, "by-ldap", 1)] == [("stop", "ok")]
    assert not Path(f"/proc/{pid}").exists() and "STOPPED" in lxc(running, "lxc-info", "-n", name, "-s")
    tools.vi("by-ldap", vmcMemoryMiB="48", vmcDesiredState="running")
    assert [each["verb"] for each in settled(running, "by-ldap", 3)] == ["stop", "resize", "start"]
    assert "RUNNING" in lxc(running, "lxc-info", "-n", name, "-s")
    pid = init_pid(running, "by-ldap")
    tools.modify("by-ldap", vmcMemoryMiB="40")
    settled(running, "by-ldap", 4)
    assert init_pid(running, "by-ldap") == pid, "it was resized while it ran"
    shown = running.ves()["by-ldap"]
    assert (shown["memory_mib"], shown["status"]) == (40, "running")
    tools.modify("by-ldap", vmcMemoryMiB="99999999999")
    assert "out of range" in refused(running, "by-ldap")
    assert init_pid(running, "by-ldap") == pid and running.ves()["by-ldap"]["memory_mib"] == 40
    tools.modify("by-ldap", vmcDesiredState="absent")
    running.until(lambda: "by-ldap" not in running.ves(), 30, "it to be gone")
    assert not Path(f"/proc/{pid}").exists() and name not in lxc(running, "lxc-ls")


def test_a_container_whose_entry_is_deleted_by_hand_runs_on_and_comes_back(running: Cloud) -> None:
    tools = Tools(running)
    shown = create(running, "kept")
    name, pid = native(running, "kept"), init_pid(running, "kept")
    tools.run("ldapdelete", tools.dn("kept"))
    running.until(lambda: running.directory().strays(), 40, "it to be seen as an orphan")
    assert init_pid_of(running, name) == pid
    wanted = {"vmcUUID": shown["id"], "vmcKind": "lxc", "vmcMemoryMiB": "64"}
    tools.run("ldapadd", stdin=entry(tools, "kept", **wanted))
    running.until(lambda: running.ves().get("kept", {}).get("observed") == "running", 40, "it to be a VE again")
    assert init_pid(running, "kept") == pid and running.ves()["kept"]["id"] == shown["id"]
    running.run("ve", "delete", "kept", "--wait")
    assert name not in lxc(running, "lxc-ls")


def init_pid_of(running: Cloud, name: str) -> int:
    return int(lxc(running, "lxc-info", "-n", name, "-p", "-H"))
