"""One node by itself: a real worker with queue, journal and executor, and no server; beside raw LXC tools on the same machine."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.worker_kit import Desk, order
from vmcloud.dispatch.app import broker_url
from vmcloud.domain.messages import Message, Result, StepOrder, parse
from vmcloud.domain.names import native_name
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Kind, Outcome, StepVerb
from vmcloud.local.purge import purge
from workers.child import Place
from workers.drivers.base import Guest
from workers.drivers.registry import make_driver
from workers.hands import Isolated
from workers.network.addresses import hardware_address
from workers.storage.busybox import build_busybox
from workers.storage.images import ImageStore

from . import rest
from .measure import Report, Wishes
from .raw import Tools

PATIENCE = 120.0
SPENT = 0.3
"""Seconds after the last start in which what it led to is over."""
NETWORK = {"bridge": "vcbench1", "subnet": "10.213.89.0/24"}


def run(report: Report, wishes: Wishes) -> None:
    """See the module."""
    with _node() as made:
        made.create(wishes.size(50, 3))
        _one(report, made, wishes)
        _starts(report, made, wishes)
        _at_rest(report, made, wishes)
        made.create(wishes.size(150, 2))
        made.power(StepVerb.START)
        _lists(report, made, wishes)


class _Node:
    """A worker with guests, and raw guests beside them."""

    def __init__(self, desk: Desk, sha256: str) -> None:
        self.desk, self.sha256, self._job = desk, sha256, 0
        self.ves: list[uuid.UUID] = []
        desk.deaf()  # what it waits for on the lists would be lost to us
        self._ears = redis.Redis.from_url(broker_url(desk.config, "server"))

    def create(self, count: int) -> None:
        """Make more guests, stopped."""
        fresh = [uuid.uuid4() for _ in range(count)]
        spec = {"kind": "lxc", "image": "busybox", "memory_mib": 64}
        args = {"spec": spec, "power": "stopped", "image_sha256": self.sha256}
        self._all(StepVerb.CREATE, fresh, **args)
        self.ves += fresh

    def power(self, verb: StepVerb) -> float:
        """A verb on all guests at once; seconds from the first order sent to the last result heard."""
        return self._all(verb, self.ves, force=True)

    def _all(self, verb: StepVerb, ves: list[uuid.UUID], **args: object) -> float:
        orders: list[StepOrder] = []
        for ve in ves:
            self._job += 1
            orders.append(order(self._job, verb=verb, ve=ve, generation=self._job, kind=Kind.LXC, **args))  # type: ignore[arg-type]
        wanted = {each.job for each in orders}
        began = time.monotonic()
        self.desk.send(*orders)
        while wanted:
            said = self._hear()
            if isinstance(said, Result) and said.job in wanted:
                assert said.outcome is Outcome.OK, said
                wanted.remove(said.job)
            assert time.monotonic() < began + PATIENCE, f"{len(wanted)} results are missing"
        return time.monotonic() - began

    def _hear(self) -> Message | None:
        """The next that is said to the server. By the plain client: the processors are the worker's, and to hear a message by
        Celery's means costs as much of them as the worker takes to say it."""
        taken = self._ears.brpop(["server.n1"], timeout=1)
        if taken is None:
            return None
        ((data,), _, _) = json.loads(base64.b64decode(json.loads(taken[1])["body"]))
        return parse(data)


@contextmanager
def _node() -> Iterator[_Node]:
    folder = Path(tempfile.mkdtemp(prefix="n"))
    folder.chmod(0o711)
    desk = Desk(folder, node={"kinds": ["lxc"], **NETWORK})
    for path in (folder, desk.data):
        path.chmod(0o711)
    try:
        build_busybox(folder / "busybox.tar")
        sha256 = hashlib.sha256((folder / "busybox.tar").read_bytes()).hexdigest()
        desk.home.mkdir(parents=True, exist_ok=True)
        ImageStore.from_config(desk.config, "n1").unpack(folder / "busybox.tar", sha256)
        desk.up()
        yield _Node(desk, sha256)
    finally:
        if desk.worker is not None:
            desk.worker.terminate()  # not killed: its children's folder would stay
            desk.worker.wait(PATIENCE)
        desk.close()
        driver = make_driver(Kind.LXC, desk.config, "n1")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda seen: driver.delete(seen.native), driver.list()))
        purge(desk.config, lambda text: None)
        shutil.rmtree(folder, ignore_errors=True)


def _one(report: Report, made: _Node, wishes: Wishes) -> None:
    """One guest after another by the driver's own calls: what it adds to the tools that it uses."""
    config = made.desk.config
    tools, driver = Tools(config, made.desk.data.parent / "one"), make_driver(Kind.LXC, config, "n1")
    image = ImageStore.from_config(config, "n1").path(made.sha256)
    spec = Spec.parse({"kind": "lxc", "image": "busybox", "memory_mib": 64})
    for number in range(-2, wishes.repetitions(20)):
        native, text = tools.template()
        began = time.monotonic()
        tools.clone(native, text)
        tools.start(native)
        raw = time.monotonic() - began
        tools.stop(native)
        tools.remove(native)
        time.sleep(0.1)
        ve = uuid.uuid4()
        guest = Guest(ve, native_name("one", ve), spec, image, "10.213.89.250/24", "10.213.89.1", hardware_address(ve))
        began = time.monotonic()
        driver.define(guest)
        driver.start(guest.native)
        taken = time.monotonic() - began
        driver.delete(guest.native)
        time.sleep(0.1)
        if number >= 0:
            report.add("raw: clone + start", raw)
            report.add("driver: define + start", taken, raw="raw: clone + start")


def _starts(report: Report, made: _Node, wishes: Wishes) -> None:
    """The raw tools do as many at once as the worker has places."""
    tools = Tools(made.desk.config, made.desk.data.parent / "raw")
    many = len(made.ves)
    raw = [tools.template() for _ in range(many)]
    for native, text in raw:
        tools.clone(native, text)
    names = [native for native, _ in raw]
    with ThreadPoolExecutor(made.desk.config.node.executors) as pool:
        for number in range(wishes.size(-1, 0), wishes.repetitions(7)):
            used, began = _processor(), time.monotonic()
            list(pool.map(tools.start, names))
            alone = time.monotonic() - began
            time.sleep(SPENT)
            used_alone = _processor() - used
            list(pool.map(tools.stop, names))
            time.sleep(0.5)
            used = _processor()
            taken = made.power(StepVerb.START)
            time.sleep(SPENT)
            used_here = _processor() - used
            if number >= 0:
                raw_name, raw_used = f"raw: {many} starts in parallel", "raw: processor time for each of them"
                report.add(raw_name, alone)
                report.add(f"worker: {many} orders to start → all results", taken, raw=raw_name)
                report.add(raw_used, used_alone / many)
                report.add("worker: processor time for each, broker and all", used_here / many, raw=raw_used)
            if number < wishes.repetitions(7) - 1:
                made.power(StepVerb.STOP)
            time.sleep(0.5)
    for native in names:
        tools.remove(native)


def _processor() -> float:
    """Seconds of processor time that everything in the benchmark's control groups has used, guests too: what other programs on
    the machine do is not in it."""
    try:
        return int(Path("/sys/fs/cgroup/cpuacct/cpuacct.usage").read_text()) / 1e9
    except FileNotFoundError:
        text = Path("/sys/fs/cgroup/cpu.stat").read_text()
        return int(dict(line.split() for line in text.splitlines())["usage_usec"]) / 1e6


def _at_rest(report: Report, made: _Node, wishes: Wishes) -> None:
    """With all guests running."""
    assert made.desk.worker is not None
    time.sleep(wishes.size(20.0, 0.5))
    before, began = rest.look(rest.family(made.desk.worker.pid)), time.monotonic()
    time.sleep(wishes.size(wishes.seconds, 1.0))
    after, seconds = rest.look(rest.family(made.desk.worker.pid)), time.monotonic() - began
    used = sum(now.seconds - (before[pid].seconds if pid in before else 0.0) for pid, now in after.items())
    for now in sorted(after.values(), key=lambda each: -each.pss_mib):
        report.value(f"{now.name}: memory (PSS)", now.pss_mib, "MiB")
    many = len(made.ves)
    report.value(f"worker with {many} guests at rest: memory (PSS)", sum(each.pss_mib for each in after.values()), "MiB", 80)
    report.value(f"worker with {many} guests at rest: processor", 100 * used / seconds, "% of one core", 0.5)


def _lists(report: Report, made: _Node, wishes: Wishes) -> None:
    config = made.desk.config
    guests = config.node_home("n1") / "lxc"
    driver, hands = make_driver(Kind.LXC, config, "n1"), Isolated(Place(config, "n1", Kind.LXC))
    for number in range(-2, wishes.repetitions(20)):
        times = []
        for call in (lambda: Tools.list(guests), driver.list, hands.list):
            began = time.monotonic()
            call()
            times.append(time.monotonic() - began)
        if number >= 0:
            raw = f"raw: lxc-ls of {len(made.ves)} running guests"
            report.add(raw, times[0])
            report.add(f"driver: list of {len(made.ves)} running guests", times[1], raw=raw)
            report.add("worker: the same in a child process", times[2], raw=raw)
    assert len(driver.list()) == len(made.ves)
