"""``vmcloud up`` and its relatives on this machine, with a real broker and a real directory. As root, in a network of its own."""

from __future__ import annotations

import grp
import json
import os
import pwd
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vmcloud.local import status

pytestmark = pytest.mark.integration

STORES = ("--only", "broker", "--only", "directory")


class Cloud:
    """The commands, for one data directory."""

    def __init__(self, data: Path) -> None:
        self.data = data

    def run(self, *arguments: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        command, *rest = arguments
        done = subprocess.run(
            [sys.executable, "-m", "vmcloud.cli", command, "--data", str(self.data), *rest],
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        if expect is not None:
            assert done.returncode == expect, f"{done.args}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.log()[-3000:]}"
        return done

    def log(self) -> str:
        file = self.data / "log" / "vmcloud.log"
        return file.read_text() if file.exists() else ""

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", "-o", "json", expect=None).stdout)
        return found

    def part(self, name: str) -> dict[str, Any]:
        return next(part for part in self.status()["parts"] if part["name"] == name)

    def until(self, condition: Callable[[], bool], timeout: float = 15.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, self.log()[-3000:]
            time.sleep(0.05)


@pytest.fixture
def cloud(place: Path) -> Iterator[Cloud]:
    made = Cloud(place / "d")
    yield made
    if (made.data / "config.toml").exists():
        made.run("down", "--purge", "--yes", expect=None)


def owner(path: Path) -> str:
    return pwd.getpwuid(path.stat().st_uid).pw_name


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_up_makes_and_starts_a_cloud_and_down_ends_it(cloud: Cloud) -> None:
    cloud.run("up", "--detach", *STORES)
    found = cloud.status()
    assert {part["name"]: part["state"] for part in found["parts"]} == {"broker": "ready", "directory": "ready"}
    users = {part["name"]: owner(Path(f"/proc/{part['pid']}")) for part in found["parts"]}
    assert users == {"broker": "redis", "directory": "openldap"}
    again = cloud.run("up", "--detach", *STORES, expect=1)
    assert "already runs" in again.stderr
    pids = [part["pid"] for part in found["parts"]] + [found["supervisor"]]
    cloud.run("down")
    assert not any(alive(pid) for pid in pids)
    assert cloud.run("status", expect=1).stdout.count("stopped") >= 2
    cloud.run("down")


def test_secrets_and_folders_are_closed(cloud: Cloud) -> None:
    cloud.run("up", "--detach", *STORES)
    secrets = sorted((cloud.data / "secrets").iterdir())
    assert [file.name for file in secrets if not file.name.startswith("node-")] == [
        "monitor.json",
        "reader.json",
        "server.json",
        "supervisor.json",
        "web.json",
    ]
    for file in secrets:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        central = file.stem in ("web", "server", "monitor")
        assert owner(file) == (f"vmcloud-{file.stem}" if central else "root"), file
    assert stat.S_IMODE((cloud.data / "broker").stat().st_mode) == 0o700
    assert stat.S_IMODE((cloud.data / "sql").stat().st_mode) == 0o2770
    assert sorted(grp.getgrgid((cloud.data / "sql").stat().st_gid).gr_mem) == ["vmcloud-server", "vmcloud-web"]
    argv = b"".join(Path(f"/proc/{part['pid']}/cmdline").read_bytes() for part in cloud.status()["parts"])
    texts = [value for file in secrets for value in json.loads(file.read_text()).values()]
    assert not any(text.encode() in argv or text in cloud.log() for text in texts)


def test_a_killed_part_comes_back_and_status_says_so(cloud: Cloud) -> None:
    cloud.run("up", "--detach", *STORES)
    before = cloud.part("broker")
    os.kill(before["pid"], signal.SIGKILL)
    cloud.until(lambda: cloud.part("broker")["restarts"] == 1 and cloud.part("broker")["state"] == "ready")
    after = cloud.part("broker")
    assert after["last_exit"] == "killed by SIGKILL"
    assert after["pid"] != before["pid"]
    assert cloud.part("directory")["restarts"] == 0


def test_after_the_supervisor_is_killed_up_works_again(cloud: Cloud) -> None:
    cloud.run("up", "--detach", *STORES)
    found = cloud.status()
    old = [part["pid"] for part in found["parts"]]
    # One part that hears nothing: the next start must not be stopped by what it holds.
    os.kill(old[0], signal.SIGSTOP)
    os.kill(found["supervisor"], signal.SIGKILL)
    cloud.until(lambda: not alive(found["supervisor"]) or status.read(cloud.data) is None or not alive(old[1]))
    cloud.run("up", "--detach", *STORES)
    assert cloud.status()["healthy"]
    assert not any(alive(pid) for pid in old)


def test_env_lets_plain_tools_work(cloud: Cloud) -> None:
    cloud.run("up", "--detach", *STORES)
    lines = cloud.run("env").stdout
    script = f'{lines}\nldapsearch -Q -LLL -s one ou 2>&1; printf %s "$VMCLOUD_URL"'
    # A person's shell: without what our own LDAP client sets for its process, which hides LDAPURI from libldap.
    shell = {name: value for name, value in os.environ.items() if name != "LDAPNOINIT"}
    done = subprocess.run(["sh", "-c", script], env=shell, capture_output=True, text=True, timeout=20, check=True)
    assert "ou: ves" in done.stdout, f"{done.stdout}\n{cloud.log()}"
    assert "http://127.0.0.1:" in done.stdout


def test_only_one_part_gets_this_terminal_and_the_rest_can_run_without_it(cloud: Cloud) -> None:
    cloud.run("up", "--detach", *STORES[:2])
    taken = cloud.run("up", "--only", "broker", expect=1)
    assert "broker already runs" in taken.stderr
    argv = [sys.executable, "-m", "vmcloud.cli", "up", "--data", str(cloud.data), "--only", "directory"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as single:
        socket = cloud.data / "directory" / "run" / "ldapi"
        cloud.until(socket.exists)
        assert owner(Path(f"/proc/{single.pid}")) == "openldap"
        assert Path(f"/proc/{single.pid}/comm").read_text() == "slapd\n"
        single.terminate()
        single.wait(10)
    assert cloud.run("up", "--only", "nonsense", expect=1).stderr.startswith("vmcloud: there is no part")


def test_ctrl_c_ends_a_cloud_in_the_foreground(cloud: Cloud) -> None:
    argv = [sys.executable, "-m", "vmcloud.cli", "up", "--data", str(cloud.data), *STORES]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        cloud.until(lambda: "all parts are ready" in cloud.log())
        parts = [part["pid"] for part in cloud.status()["parts"]]
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 0
    assert "broker    | " in output
    assert "all parts have ended" in output
    assert not any(alive(pid) for pid in parts)


def test_a_taken_port_is_stepped_over_at_first_and_refused_later(cloud: Cloud) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", "import socket; s = socket.create_server(('127.0.0.1', 8471)); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        told = cloud.run("up", "--detach", *STORES).stderr
        assert "port 8471 is taken by another program: broker uses 847" in told
        cloud.run("down")
        config = cloud.data / "config.toml"
        config.write_text(config.read_text().replace("redis://127.0.0.1:", "redis://127.0.0.1:8471/0#"))
        refused = cloud.run("up", "--detach", *STORES, expect=1).stderr
        assert "port 8471, which broker needs, is taken by another program" in refused
        assert "ss -ltnp" in refused
    finally:
        holder.kill()
        holder.wait()


def test_doctor_answers_in_json_with_fixes(cloud: Cloud) -> None:
    cloud.run("up", "--detach", *STORES)
    (cloud.data / "secrets" / "web.json").chmod(0o644)
    done = cloud.run("doctor", "-o", "json", expect=1)
    results = {each["name"]: each for each in json.loads(done.stdout)}
    assert results["slapd"]["level"] == "OK"
    assert results["schema version"]["level"] == "OK"
    assert results["secrets"]["level"] == "FAIL"
    assert results["secrets"]["fix"] == f"chmod 600 {cloud.data}/secrets/web.json"
    assert all(each["fix"] for each in results.values() if each["level"] == "FAIL")
    assert "Traceback" not in done.stdout


def test_purge_leaves_nothing(cloud: Cloud) -> None:
    cloud.run("up", "--detach", *STORES)
    pids = [part["pid"] for part in cloud.status()["parts"]]
    cloud.run("down", "--purge", "--yes")
    assert not cloud.data.exists()
    assert not any(alive(pid) for pid in pids)
    assert "there is no cloud" in cloud.run("status", expect=1).stderr


def test_the_systemd_unit_is_sound(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "vmcloud" / "local" / "vmcloud.service").read_text()
    assert "KillMode=process" in text
    unit = tmp_path / "vmcloud.service"
    unit.write_text(text.replace("/opt/vmcloud/venv/bin/vmcloud", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
