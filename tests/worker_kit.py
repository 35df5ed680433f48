"""What tests of the worker share: orders, and a desk at which a server and a monitor sit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from tests.broker import Broker, passwords_for, write_cloud
from vmcloud.config import Config, NodeSettings
from vmcloud.dispatch.envelope import Order, private_key
from vmcloud.dispatch.receive import Lost, Receiver
from vmcloud.dispatch.send import OrderSender, Sender
from vmcloud.domain.messages import Message, Result, Sighting, StepOrder, parse
from vmcloud.domain.vocabulary import Kind, StepVerb

VE = UUID("0b5dc6a4-7f4e-4e0e-9f0e-0a8a4a3b2c1d")
NATIVE = f"a-{VE.hex[:8]}"
M = TypeVar("M", bound=Message)
ROOT = Path(__file__).parent.parent


def order(
    job: int = 1,
    *,
    attempt: int = 1,
    verb: StepVerb = StepVerb.START,
    generation: int = 1,
    ve: UUID = VE,
    node: str = "n1",
    timeout: float = 60.0,
    kind: Kind = Kind.SIMULATED,
    **args: Any,
) -> StepOrder:
    """A step on one VE; ``args`` as the verb needs them."""
    if verb in (StepVerb.CREATE, StepVerb.RESIZE):
        args = {"spec": {"kind": str(kind), "image": "x"}, "power": "running", "image_sha256": "", **args}
    native = f"a-{ve.hex[:8]}"
    return StepOrder(job, 1, attempt, node, verb, f"ve:{ve}", ve, native, kind, generation, args or {"ticket": "secret"}, timeout)


class Desk:
    """A broker, a worker process, and whoever orders and listens."""

    def __init__(self, folder: Path, *, simulate: int = 0, node: dict[str, object] | None = None, **intervals: float) -> None:
        self.data, self.faults = folder / "data", folder / "faults"
        self.faults.mkdir(parents=True)
        settings: dict[str, object] = {"name": "n1", "kinds": ["simulated"], "simulate": simulate, **(node or {})}
        self.nodes = list(NodeSettings(name="n1", simulate=simulate).names)
        passwords = passwords_for(self.nodes)
        self.broker = Broker(folder / "broker", passwords)
        self.broker.start()
        self.key = write_cloud(self.data, self.broker.url, passwords, settings, **intervals)
        self.config = Config.load(self.data)
        self.home = self.config.node_home(self.nodes[0])
        self.guests = self.home / "simulated.sqlite3"
        self._server = Receiver(self.config, "server", [f"server.{name}" for name in self.nodes])
        self._monitor = Receiver(self.config, "monitor", [f"monitor.{name}" for name in self.nodes])
        self.sender = OrderSender(Sender(self.config, "server"), private_key(self.key), lifetime=600.0)
        self.heard: list[Message] = []
        self.worker: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the worker."""
        # As `vmcloud up` does it: with Django's settings named, which a worker must not care for.
        more = {"DJANGO_SETTINGS_MODULE": "vmcloud.site.settings", "MALLOC_ARENA_MAX": "2"}
        environment = {**os.environ, "VMCLOUD_DATA": str(self.data), "VMCLOUD_FAULTS": str(self.faults), **more}
        log = (self.data / "worker.log").open("ab")
        self.worker = subprocess.Popen([sys.executable, "-m", "workers"], cwd=ROOT, env=environment, stdout=log, stderr=log)

    def kill(self) -> None:
        """SIGKILL the worker."""
        assert self.worker is not None
        self.worker.send_signal(signal.SIGKILL)
        self.worker.wait()

    def close(self) -> None:
        """End everything; the worker's exit code."""
        if self.worker is not None and self.worker.poll() is None:
            self.kill()
        self._server.close()
        self._monitor.close()
        self.broker.kill()

    def fail_at(self, point: str) -> None:
        """Have the worker killed when it next comes to a fault point."""
        (self.faults / point).touch()

    def send(self, *orders: Order) -> None:
        """As the server does."""
        for each in orders:
            self.sender.send(each)

    def listen(self, seconds: float) -> None:
        """Collect what is said."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for receiver in (self._server, self._monitor):
                try:
                    said = receiver.get(min(left, 0.02))
                except Lost:
                    time.sleep(0.1)
                    continue
                self.heard += [parse(data) for _, data in said]

    def deaf(self) -> None:
        """Let go of the lists, for somebody else to read; listens again when it is next told to."""
        self._server.close()
        self._monitor.close()

    def wait(self, kind: type[M], matches: Callable[[M], bool] = lambda _: True, seconds: float = 15.0) -> M:
        """The first message of a kind that matches, heard already or soon."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for message in self.heard:
                if isinstance(message, kind) and matches(message):
                    return message
            self.listen(0.05)
        log = (self.data / "worker.log").read_text()
        raise AssertionError(f"no such {kind.__name__} in {self.heard}\n{log[-6000:]}")

    def result(self, job: int, attempt: int = 1, seconds: float = 15.0) -> Result:
        """The result of a job's only step."""
        return self.wait(Result, lambda each: each.job == job and each.attempt == attempt, seconds)

    def up(self) -> None:
        """Start the worker and wait for its first full list."""
        self.heard.clear()
        self.start()
        self.wait(Sighting, lambda each: each.full)

    def done(self, each: StepOrder, seconds: float = 15.0) -> Result:
        """Send a step and wait for its result."""
        self.send(each)
        return self.result(each.job, each.attempt, seconds)
