"""The same without a cloud: a broker's round trip, and containers by liblxc's own tools."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import redis

from vmcloud.config import Config
from vmcloud.dispatch.app import broker_url
from vmcloud.domain.names import native_name
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Kind
from workers.drivers import tools
from workers.drivers.base import Guest
from workers.drivers.lxc import LxcDriver
from workers.drivers.lxc.config import render_config
from workers.drivers.lxc.power import LXC_PATH
from workers.drivers.registry import make_driver
from workers.network.addresses import hardware_address

PATIENCE = 30
"""Seconds for anything to come back."""


class RoundTrip:
    """LPUSH → BRPOP → LPUSH → BRPOP between two threads, as two parts of the cloud would talk. Use as a context manager."""

    def __init__(self, config: Config) -> None:
        # As the server, who may read and write the lists of nodes that do not exist too.
        self._here, self._there = (
            redis.Redis.from_url(broker_url(config, "server"), socket_timeout=2 * PATIENCE) for _ in range(2)
        )
        self._out, self._back = "server.benchmark-out", "server.benchmark-back"

    def __enter__(self) -> RoundTrip:
        self._echo = threading.Thread(target=self._answer, daemon=True)
        self._echo.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._here.lpush(self._out, b"end")
        self._echo.join(5)
        self._here.close()
        self._there.close()

    def _answer(self) -> None:
        while (taken := self._there.brpop([self._out], timeout=1)) is None or taken[1] != b"end":
            if taken is not None:
                self._there.lpush(self._back, taken[1])

    def once(self) -> float:
        """Seconds of one."""
        began = time.monotonic()
        self._here.lpush(self._out, b"x" * 700)
        assert self._here.brpop([self._back], timeout=PATIENCE) is not None, "nothing came back over the broker"
        return time.monotonic() - began


class Tools:
    """liblxc's tools on the same bridge, image tree, id map and storage as the cloud's guests, in a folder of their own.

    The files that a clone consists of are made before the clock starts where a person would have them in a template (the text
    of the configuration); making the layer and writing the configuration durably is within the measure, as it is in the cloud.
    """

    def __init__(self, config: Config, folder: Path) -> None:
        node = config.node
        folder.mkdir(mode=0o711)
        theirs = make_driver(Kind.LXC, config, node.name)
        assert isinstance(theirs, LxcDriver)
        self._settings = replace(theirs.settings, home=folder)
        self._host = theirs.host
        self._like = next(theirs.guests.glob("*/config")).read_text()
        self._prefix, self._number = node.subnet.rpartition(".")[0], 200
        self._settings.guests.mkdir(mode=0o711)

    def template(self) -> tuple[str, str]:
        """Name and configuration of a guest to be; nothing is on disk yet."""
        ve = uuid.uuid4()
        native = native_name("raw", ve)
        self._number = 200 + (self._number - 199) % 50
        line = next(line for line in self._like.splitlines() if line.startswith("lxc.rootfs.path"))
        image = Path(line.split(":")[1])
        spec = Spec.parse({"kind": "lxc", "image": "busybox", "memory_mib": 64})
        guest = Guest(ve, native, spec, image, f"{self._prefix}.{self._number}/24", f"{self._prefix}.1", hardware_address(ve))
        return native, render_config(guest, self._settings, self._host)

    def clone(self, native: str, text: str) -> None:
        """An overlay clone: an empty layer owned by the guest's root, and a configuration that is on disk."""
        folder = self._settings.guests / native
        folder.mkdir(mode=0o711)
        for name in ("upper", "work"):
            (folder / name).mkdir(mode=0o755)
            os.chown(folder / name, self._settings.idmap_base, self._settings.idmap_base)
        with (folder / "config").open("w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())

    def start(self, native: str) -> None:
        """`lxc-start`, which returns once the guest runs."""
        self._run("lxc-start", native, "-o", str(self._settings.guests / native / "lxc.log"), "-l", "DEBUG")

    def stop(self, native: str) -> None:
        """`lxc-stop -k`."""
        self._run("lxc-stop", native, "-k")

    @staticmethod
    def list(guests: Path) -> None:
        """`lxc-ls` with the states, of any LXCPATH."""
        program = tools.require("lxc-ls", operation="benchmark")
        argv = [program, "-P", str(guests), "-f", "-F", "NAME,STATE,PID"]
        subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, env={"LC_ALL": "C", "PATH": LXC_PATH}
        )

    def remove(self, native: str) -> None:
        """The guest's files."""
        shutil.rmtree(self._settings.guests / native)

    def _run(self, program: str, native: str, *more: str) -> None:
        null = subprocess.DEVNULL
        argv = [tools.require(program, operation="benchmark"), "-P", str(self._settings.guests), "-n", native, *more]
        # In the driver's environment: liblxc would use newuidmap where it finds it, which knows no range of root's.
        subprocess.run(argv, stdin=null, stdout=null, stderr=null, check=True, env={"LC_ALL": "C", "PATH": LXC_PATH})
