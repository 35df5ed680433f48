"""Other people's LDAP tools at a test's cloud: ldapmodify, ldapadd, ldapdelete, ldapvi, as root or as a person."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import uuid
from typing import Any

from ldap_schema.install import ldapi_uri
from tests.cloud import Cloud
from vmcloud.config import Config
from vmcloud.directory.codec import Tree

PASSWORD = "password-of-a-person"


class Tools:
    """The tools at one cloud's directory. ``person``: a login below ``ou=people``; none: root over the local socket."""

    def __init__(self, cloud: Cloud) -> None:
        config = Config.load(cloud.data)
        self.cloud, self.uri, self.tree = cloud, config.directory_uri, Tree(config.suffix)
        self.socket = ldapi_uri(cloud.data / "directory" / "run" / "ldapi")

    def dn(self, name: str) -> str:
        """A VE's entry."""
        return self.tree.ve("main", name)

    def _as(self, person: str) -> list[str]:
        if not person:
            return ["-Q", "-Y", "EXTERNAL", "-H", self.socket]
        return ["-x", "-H", self.uri, "-D", f"uid={person},ou=people,{self.tree.suffix}", "-w", PASSWORD]

    def run(self, *argv: str, person: str = "", stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """One tool of OpenLDAP."""
        env = {**os.environ, "LDAPNOINIT": "1"}
        argv = (argv[0], *self._as(person), *argv[1:])
        done = subprocess.run(argv, input=stdin, text=True, capture_output=True, env=env, timeout=30, check=False)
        assert not check or done.returncode == 0, (argv, stdin, done.returncode, done.stderr)
        return done

    def modify(self, name: str, person: str = "", *, check: bool = True, **values: str | None) -> int:
        """``ldapmodify``: replace these attributes of a VE's entry in one operation (None: remove). Its exit code."""
        lines = [f"dn: {self.dn(name)}", "changetype: modify"]
        for attribute, value in values.items():
            lines += [f"replace: {attribute}", *([f"{attribute}: {value}"] if value is not None else []), "-"]
        return self.run("ldapmodify", person=person, stdin="\n".join(lines) + "\n", check=check).returncode

    def person(self, name: str, *groups: str) -> None:
        """Add a person who can bind, in these groups."""
        dn = f"uid={name},ou=people,{self.tree.suffix}"
        lines = [f"dn: {dn}", "changetype: add", "objectClass: inetOrgPerson", f"uid: {name}", f"cn: {name}", f"sn: {name}"]
        lines.append(f"userPassword: {PASSWORD}")
        for group in groups:
            lines += ["", f"dn: cn={group},ou=groups,{self.tree.suffix}", "changetype: modify", "add: member", f"member: {dn}"]
        self.run("ldapmodify", stdin="\n".join(lines) + "\n")

    def vi(self, name: str, **values: str) -> str:
        """``ldapvi`` on a terminal: root opens the VE's entry in an editor, which changes these attributes. What it showed."""
        changes = "".join(f"sed -i 's/^{name}: .*/{name}: {value}/' \"$file\"\n" for name, value in values.items())
        editor = self.cloud.data / "editor"
        editor.write_text("#!/bin/sh -e\nfor file; do :; done\n" + changes)
        editor.chmod(0o755)
        argv = ["ldapvi", "-h", self.socket, "-Y", "EXTERNAL", "-Q", "--noquestions", "-b", self.dn(name)]
        env = {**os.environ, "EDITOR": str(editor), "VISUAL": str(editor), "HOME": str(self.cloud.data), "TERM": "dumb"}
        # Without a terminal it prints instead of editing.
        master, slave = pty.openpty()
        with os.fdopen(master, "rb", buffering=0) as screen:
            process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True)
            os.close(slave)
            shown = b""
            with contextlib.suppress(OSError):  # how a terminal ends
                while data := screen.read(4096):
                    shown += data
        assert process.wait(30) == 0, shown
        return shown.decode(errors="replace")


def show(running: Cloud, name: str) -> dict[str, Any]:
    """A VE as the API shows it."""
    found: dict[str, Any] = running.ask("GET", f"/ves/{name}")
    return found


def jobs(running: Cloud, name: str) -> list[dict[str, Any]]:
    """Its jobs from the directory, oldest first."""
    found = running.ask("GET", f"/jobs?ve={name}&limit=100")["items"]
    return [each for each in reversed(found) if each["origin"] == "ldap"]


def settled(running: Cloud, name: str, count: int, seconds: float = 15.0) -> list[dict[str, Any]]:
    """Its jobs from the directory once there are so many and all are over."""

    def look() -> list[dict[str, Any]] | None:
        found = jobs(running, name)
        return found if len(found) >= count and all(each["state"] == "C" for each in found) else None

    found: list[dict[str, Any]] = running.until(look, seconds, f"{count} jobs of {name} to end: {jobs(running, name)}")
    assert len(found) == count, found
    return found


def refused(running: Cloud, name: str, seconds: float = 10.0) -> str:
    """Why a change was refused, once it was."""
    text: str = running.until(lambda: show(running, name)["refusal"], seconds, "a refusal")
    return text


def entry(tools: Tools, name: str, **values: str) -> str:
    """A VE's entry as a person would write it."""
    wanted = {"vmcUUID": str(uuid.uuid4()), "vmcProject": "main", "vmcKind": "simulated", "vmcImageName": "busybox"}
    wanted |= {"vmcDesiredState": "running", "vmcMemoryMiB": "48", **values}
    lines = [f"dn: {tools.dn(name)}", "objectClass: device", "objectClass: vmcVE", f"cn: {name}"]
    return "\n".join([*lines, *(f"{attribute}: {value}" for attribute, value in wanted.items())]) + "\n"
