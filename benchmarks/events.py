"""From a guest's change of state, which nobody ordered, to the directory: real containers, frozen and thawed behind the cloud's
back, one at a time and at :data:`RATE` in a second.

The clock starts when liblxc's daemon is told, and stops when a watch of the directory tells the change.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle

from vmcloud.config import Config
from vmcloud.directory import port
from vmcloud.directory.store import Directory
from vmcloud.directory.watch import Watcher
from vmcloud.domain.messages import Mark, NodeFacts
from vmcloud.domain.names import native_name
from vmcloud.domain.records import NodeRecord, VERecord
from vmcloud.domain.vocabulary import Kind, Observed
from workers.drivers.lxc import monitor, process

from .measure import Report, Wishes, quantile
from .raw import RoundTrip
from .rest import Usage, usages
from .scene import PATIENCE, Scene, scene
from .stages import Stages

RATE = 50
"""Changes in a second: each guest changes five times."""
P50, P95 = 0.020, 0.100
SCRATCH = "benchmark"
"""A node's entry for raw writes."""


class Watch:
    """When the directory told which state of which VE, and each write to the scratch entry."""

    def __init__(self, directory: Directory) -> None:
        self._condition = threading.Condition()
        self._told: dict[str, list[tuple[Observed, float]]] = defaultdict(list)
        self._scratch: dict[int, float] = {}
        self._stop = threading.Event()
        watcher = Watcher(directory.settings, directory.tree.suffix)
        self._thread = threading.Thread(target=watcher.run, args=(self._event, self._stop), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join(2.0)

    def _event(self, event: port.Event) -> None:
        now = time.monotonic()
        with self._condition:
            match event:
                case port.Changed(record=VERecord(name=name, observed=seen)) if seen is not None:
                    told = self._told[name]
                    if not told or told[-1][0] is not seen.state:
                        told.append((seen.state, now))
                case port.Changed(record=NodeRecord(name=name, mark=mark)) if name == SCRATCH and mark is not None:
                    self._scratch[mark.sequence] = now
            self._condition.notify_all()

    def state(self, name: str, state: Observed, since: float) -> float:
        """When a VE was first told to be in a state, not before ``since``; waits for it. Monotonic seconds."""
        with self._condition:
            found = self._condition.wait_for(
                lambda: [at for said, at in self._told[name] if said is state and at >= since], PATIENCE
            )
            assert found, f"{name} was not told to be {state} within {PATIENCE:g} s"
            return float(found[0])

    def scratch(self, sequence: int) -> float:
        """When a write to the scratch entry was told."""
        with self._condition:
            assert self._condition.wait_for(lambda: sequence in self._scratch, PATIENCE)
            return self._scratch[sequence]


class Guest:
    """A container that is frozen and thawed by its control group, and liblxc's daemon told of it."""

    def __init__(self, made: Scene, name: str) -> None:
        config = Config.load(made.cloud.data)
        record = made.cloud.directory().ve_named("main", name)
        assert record is not None
        self.name, self._path = name, config.node_home("n") / "lxc"
        self._native = native_name(name, record.ve)
        self._groups = process.look(self._path, self._native).groups
        self._states = cycle([(True, "FROZEN", Observed.SUSPENDED), (False, "THAWED", Observed.RUNNING)])

    def change(self) -> tuple[Observed, float]:
        """To the other state; which, and when it was told."""
        frozen, word, state = next(self._states)
        self._groups.freeze(frozen)
        at = time.monotonic()
        monitor.tell(self._path, self._native, word)
        return state, at


class Raw:
    """One hop over the broker, and one write as the monitor makes them."""

    def __init__(self, made: Scene, watch: Watch) -> None:
        self._config, self._watch, self._sequence = Config.load(made.cloud.data), watch, 0
        made.cloud.directory().add_node(NodeRecord(SCRATCH))
        password = str(self._config.secrets("monitor")["directory_password"])
        self._store = Directory.of(self._config.directory_uri, self._config.suffix, "monitor", password)

    def measure(self, report: Report, times: int) -> None:
        """Add samples."""
        with RoundTrip(self._config) as trip:
            for _ in range(times):
                report.add("raw: one hop over the broker (half a round trip)", trip.once() / 2)
        for _ in range(times):
            self._sequence += 1
            facts = NodeFacts((Kind.LXC,), 1, self._sequence, 1, "benchmark")
            began = time.monotonic()
            assert self._store.observe_node(SCRATCH, facts, Mark(1, self._sequence))
            report.add("raw: one write of the monitor's, committed", time.monotonic() - began)
            report.add("raw: the same, until a watch tells it", self._watch.scratch(self._sequence) - began)
            time.sleep(0.01)


@contextmanager
def _watching(made: Scene) -> Iterator[Watch]:
    watch = Watch(made.cloud.directory())
    try:
        yield watch
    finally:
        watch.close()


def run(report: Report, wishes: Wishes) -> None:
    """1. raw hop and write; 2. changes one at a time; 3. changes at :data:`RATE`; 4. raw hop and write again."""
    with scene(trace="stages" if wishes.trace else "") as made, _watching(made) as watch:
        names = [f"e{number}" for number in range(wishes.size(10, 2))]
        for job in [made.create(name, kind="lxc", power="running") for name in names]:
            made.finish(job)
        guests = [Guest(made, name) for name in names]
        raw = Raw(made, watch)
        time.sleep(wishes.size(2.0, 0.2))
        raw.measure(report, wishes.size(50, 3))
        stages = Stages("a change")
        base = "raw: the same, until a watch tells it"
        for _, guest in zip(range(wishes.size(60, 4)), cycle(guests), strict=False):
            if made.trace:
                made.trace.read()
            state, at = guest.change()
            told = watch.state(guest.name, state, at)
            report.add("event → directory, one at a time", told - at, raw=base, target=P50)
            time.sleep(0.1)
            if made.trace:
                stages.add(made.trace.read(), at, {"told": told})
        count, told_at = wishes.count or wishes.size(10 * RATE, 10), []
        series = f"event → directory, {RATE} in a second"
        before, begin = usages(made), time.monotonic()
        for number, guest in zip(range(count), cycle(guests), strict=False):
            time.sleep(max(0.0, begin + number / RATE - time.monotonic()))
            told_at.append((guest, *guest.change()))
        seconds = time.monotonic() - begin
        for guest, state, at in told_at:
            report.add(series, watch.state(guest.name, state, at) - at, raw=base, target=P50)
        _processors(report, before, usages(made), count)
        raw.measure(report, wishes.size(50, 3))
        report.value("changes in a second", count / seconds, "")
        report.value("p95 of these", quantile(report.series[series].samples, 0.95) * 1000, "ms", P95 * 1000)
        if made.trace:
            stages.show(report)
            made.tell_missing(report)


def _processors(report: Report, before: dict[int, Usage], after: dict[int, Usage], count: int) -> None:
    """What one change costs, by process: a busy machine makes everything late and this not more."""
    total = 0.0
    for pid, now in sorted(after.items(), key=lambda item: item[1].name):
        used = (now.seconds - (before[pid].seconds if pid in before else 0.0)) / count
        total += used
        if used > 0.0001:
            report.value(f"{now.name}: processor time of one change", used * 1000, "ms")
    report.value("all: processor time of one change", total * 1000, "ms")
