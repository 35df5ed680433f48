"""``ansible/`` does on another machine what quickstart does here.

Fast: syntax, and a look (``--check``) at this machine that changes nothing. Slow: for real, on a bare Debian userland without
network, whose packages are fetched beforehand: ``VMCLOUD_TEST_UPLINK`` names a network namespace with a way out (runtests --slow
sets it); without it the tests' own network is taken.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

pytestmark = pytest.mark.integration

CHECKOUT = Path(__file__).resolve().parents[2]
ANSIBLE = CHECKOUT / "ansible"
ROLE = ANSIBLE / "roles" / "vmcloud"
GIT = ("git", "-c", "safe.directory=*", "-C", str(CHECKOUT))


def playbook(inventory: Path, home: Path, *options: str, timeout: float = 110) -> str:
    """What ``ansible-playbook site.yml`` says; it must succeed."""
    done = subprocess.run(
        ["ansible-playbook", "--inventory", str(inventory), *options, "site.yml"],
        cwd=ANSIBLE,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def recap(said: str) -> dict[str, int]:
    """The counts of the one host in the recap."""
    return {word: int(count) for word, count in re.findall(r"(\w+)=(\d+)", said.partition("PLAY RECAP")[2])}


def inventory(folder: Path, **variables: object) -> Path:
    """An inventory of one machine."""
    file = folder / "inventory.yml"
    file.write_text(yaml.safe_dump({"vmcloud": {"hosts": {"machine": variables}}}))
    return file


def load(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


def installed_files() -> dict[str, tuple[int, int]]:
    """What the playbook makes on a machine, as far as it is here: path → inode, time of change."""
    places = [
        "/opt/vmcloud",
        "/opt/vmcloud/source",
        "/opt/vmcloud/source.tree",
        "/opt/vmcloud/venv",
        "/usr/local/bin/vmcloud",
        "/usr/sbin/policy-rc.d",
        "/usr/share/bash-completion/completions/vmcloud",
        "/etc/passwd",
        "/etc/sysctl.d",
        "/etc/systemd/system",
        "/var/lib/vmcloud",
        "/var/lib/apt/lists",
        "/var/lib/dpkg/status",
    ]
    return {place: ((found := os.lstat(place)).st_ino, found.st_ctime_ns) for place in places if os.path.lexists(place)}


def test_every_file_is_yaml_and_the_example_fits_the_playbook() -> None:
    for file in ANSIBLE.rglob("*.yml"):
        assert load(file), file
    assert load(ANSIBLE / "site.yml")[0]["hosts"] in load(ANSIBLE / "inventory.example.yml")["all"]["children"]


def test_each_variable_has_one_default_and_stands_in_the_readme() -> None:
    defaults = load(ROLE / "defaults" / "main.yml")
    specified = load(ROLE / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]
    assert defaults.keys() == specified.keys()
    for name, option in specified.items():
        assert option.get("default", defaults[name]) == defaults[name], name
        assert f"`{name}`" in (ANSIBLE / "README.md").read_text(), name
    used = set(re.findall(r"vmcloud_\w+", (ANSIBLE / "inventory.example.yml").read_text()))
    assert used <= defaults.keys()


def test_only_builtin_modules_are_used() -> None:
    modules = re.compile(r"^\s+([a-z_]+\.[a-z_]+\.[a-z_]+):", re.MULTILINE)
    for file in [ANSIBLE / "site.yml", *(ROLE / "tasks").glob("*.yml")]:
        found = modules.findall(file.read_text())
        assert found, file
        assert all(name.startswith("ansible.builtin.") for name in found), file


def test_syntax(tmp_path: Path) -> None:
    playbook(ANSIBLE / "inventory.example.yml", tmp_path, "--syntax-check")


def test_check_mode_says_what_would_be_done_and_does_nothing(tmp_path: Path) -> None:
    before = installed_files()
    hosts = inventory(
        tmp_path, ansible_connection="local", vmcloud_data=str(tmp_path / "cloud"), vmcloud_node_name="n1", vmcloud_bridge="vmc9"
    )
    counts = recap(playbook(hosts, tmp_path, "--check", "--diff"))
    assert counts["failed"] == counts["unreachable"] == 0
    assert installed_files() == before
    assert not (tmp_path / "cloud").exists()


BOOT = """
set -e
root=$1
ip link set lo up
mount --bind "$root" "$root"
mkdir -p "$root/.old"
mount --rbind /dev "$root/dev"
mount --make-rslave "$root/dev"
mount -t sysfs sysfs "$root/sys"
mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
mount --make-rslave "$root/sys/fs/cgroup"
cd "$root"
pivot_root . .old
mount -t proc proc /proc
umount -l /.old
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
hostname bare
echo 127.0.1.1 bare >> /etc/hosts
echo booted
exec > /dev/null
sleep infinity &
wait
"""
"""Process 1 of the machine; bash, because it must reap what daemons leave."""

ENVIRONMENT = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8")


class Machine:
    """A running userland with a root, processes, network and names of its own."""

    def __init__(self, root: Path) -> None:
        namespaces = ["--mount", "--net", "--pid", "--uts", "--ipc"]
        self.process = subprocess.Popen(
            ["unshare", *namespaces, "--fork", "--kill-child", "bash", "-c", BOOT, "boot", str(root)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "booted\n"
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self.enter = ["nsenter", "--target", children.read_text().strip(), *namespaces, "env", "-i", *ENVIRONMENT]

    def run(self, command: str) -> str:
        done = subprocess.run([*self.enter, "bash", "-c", command], capture_output=True, text=True, timeout=110, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def ssh(self, file: Path) -> Path:
        """A stand-in for ssh: what it is told to run, its last argument, it runs in the machine."""
        file.write_text(f'#!/bin/bash\nexec {" ".join(self.enter)} sh -c "${{@: -1}}"\n')
        file.chmod(0o755)
        return file

    def stop(self) -> None:
        subprocess.run([*self.enter, "vmcloud", "down", "--purge", "--yes"], capture_output=True, timeout=110, check=False)
        self.process.kill()
        self.process.wait()


def fetch(*argv: str | Path, env: Mapping[str, str] | None = None) -> None:
    """Run what needs the network, in a namespace that has one."""
    uplink = os.environ.get("VMCLOUD_TEST_UPLINK")
    command: Sequence[str | Path] = [*(["nsenter", f"--net={uplink}"] if uplink else []), *argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env={**os.environ, **(env or {})})
    if done.returncode:
        unfetched(f"{argv[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")


def unfetched(why: str) -> NoReturn:
    pytest.fail(
        "the bare machine can not be made. This test needs mmdebstrap, and a network to fetch Debian and Python packages:"
        f" run it by ./runtests --slow on a machine that has one.\n{why}",
        pytrace=False,
    )


def committed(path: str) -> str:
    """A file of the checkout as the playbook takes it: from the last commit."""
    return subprocess.run([*GIT, "show", f"HEAD:{path}"], capture_output=True, text=True, check=True).stdout


def make_userland(root: Path) -> None:
    """A minimal Debian without Python; all that the playbook will install waits in apt's cache and in ``/wheels``."""
    if not shutil.which("mmdebstrap"):
        unfetched("mmdebstrap is not installed")
    fetch("mmdebstrap", "--quiet", "--variant=minbase", "--skip=cleanup/apt", "bookworm", root)
    settings = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True).stdout
    (root / "etc/apt/apt.conf.d/99of-the-tests-machine").write_text(settings)
    asked = committed("vmcloud/local/install.sh") + 'echo "${VMCLOUD_PACKAGES[@]}" "${VMCLOUD_BUILD_PACKAGES[@]}"\n'
    packages = subprocess.run(["bash", "-s"], input=asked, capture_output=True, text=True, check=True).stdout.split()
    fetch("chroot", root, "apt-get", "install", "-qq", "-y", "--no-install-recommends", "--download-only", "python3", *packages)
    requirements = root / "requirements.txt"
    requirements.write_text(committed("requirements.txt"))
    pip: list[str | Path] = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", root / "wheels"]
    fetch(*pip, "--requirement", requirements, "setuptools>=77", "wheel")
    (root / "etc/pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")


@pytest.fixture
def machine() -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(prefix="bare"))
    folder.chmod(0o711)
    try:
        make_userland(folder / "root")
        booted = Machine(folder / "root")
        yield booted
        booted.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_bare_machine_becomes_a_cloud_and_the_second_run_changes_nothing(machine: Machine, tmp_path: Path) -> None:
    hosts = inventory(
        tmp_path,
        ansible_connection="ssh",
        ansible_ssh_executable=str(machine.ssh(tmp_path / "ssh")),
        ansible_ssh_transfer_method="piped",
        vmcloud_node_name="n1",
        vmcloud_bridge="vmc9",
        vmcloud_subnet="10.99.0.0/24",
    )
    look = recap(playbook(hosts, tmp_path, "--check"))
    assert look["failed"] == 0 and look["changed"] == 1
    machine.run("test ! -e /usr/bin/python3")

    first = recap(playbook(hosts, tmp_path, timeout=500))
    assert first["failed"] == 0 and first["changed"] > 5
    assert json.loads(machine.run("vmcloud status -o json"))["healthy"]
    assert machine.run('eval "$(vmcloud env)"; vmcloud node list -o name').split() == ["n1"]
    assert "hello" in machine.run('eval "$(vmcloud env)"; vmcloud ve list -o name').split()
    assert "10.99.0.1/24" in machine.run("ip -o address show dev vmc9")
    assert "vmcloud" in machine.run("cat /usr/share/bash-completion/completions/vmcloud")
    machine.run("test ! -e /usr/sbin/policy-rc.d")
    machine.run("! ls /etc/rc2.d/S*redis-server /etc/rc2.d/S*slapd /etc/systemd/system/multi-user.target.wants/lxc.service")

    begin = time.monotonic()
    said = playbook(hosts, tmp_path)
    assert recap(said)["changed"] == 0, said
    assert time.monotonic() - begin < 60
    assert recap(playbook(hosts, tmp_path, "--check"))["changed"] == 0

    machine.run("rm /opt/vmcloud/source.tree")
    guests = machine.run("pgrep -f 'lxc.*hello'")
    new_program = recap(playbook(hosts, tmp_path))
    assert new_program["failed"] == 0 and new_program["changed"] > 0
    assert json.loads(machine.run("vmcloud status -o json"))["healthy"]
    assert machine.run("pgrep -f 'lxc.*hello'") == guests
