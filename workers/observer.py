"""Looking at the guests of one node, and saying what was seen: a full list at intervals and on request, changes at once (those
that follow each other fast, together: :mod:`workers.gathering`).

A kind that could not be looked at makes the list partial: it says what was seen and nothing about what was not. A mark is taken
before the look that it is for, so what a step or an event shows meanwhile is later.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from vmcloud.domain.messages import Digest, Mark, NodeFacts, Seen, Sighting, Usage
from vmcloud.domain.vocabulary import Kind, Observed, StepVerb

from .drivers.base import CannotLook, DriverError, Gone
from .gathering import Gathering
from .guests import GuestBook
from .hands import Hands
from .journal import Journal, Presence
from .reporter import Reporter

log = logging.getLogger(__name__)

FACTS_SECONDS = 300.0
PRUNE_SECONDS = 3600.0
"""Seconds after which the journal forgets what is old (it does so at the start, too)."""
GAP = 1.0
"""Seconds between two full lists, however often they are asked for."""
LAG = 1.0
"""Seconds that an event may be under way: one this soon after a step's look, about a change before it, is old. Where that cannot
be told from its time, the guest is looked at once more."""
LOOKS_KEPT = 1000
REMOVING = (StepVerb.DELETE, StepVerb.MIGRATE_CLEAN)
"""Steps that remove a guest."""
SOURCE_LOST = (0.05, 5.0)
"""Seconds after which a lost source of events is tried again: first, and at most; doubled each time."""
STEADY = 10.0
"""Seconds that a source must last for its next loss to count as a first one."""


class Observer:
    """The eyes of one node. ``facts`` makes the node's facts from the kinds that are healthy; ``prepare`` sees, every
    :data:`FACTS_SECONDS`, that the machine has what the drivers need."""

    def __init__(
        self,
        node: str,
        journal: Journal,
        hands: Mapping[Kind | None, Hands],
        book: GuestBook,
        reporter: Reporter,
        ticker: Ticker,
        *,
        facts: Callable[[tuple[Kind, ...]], NodeFacts],
        images: Callable[[], tuple[str, ...]],
        interval: float,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self._node, self._journal, self._book, self._reporter, self._ticker = node, journal, book, reporter, ticker
        self._hands: dict[Kind, Hands] = {kind: each for kind, each in hands.items() if kind is not None}
        self._make_facts, self._images, self._interval, self._prepare = facts, images, interval, prepare
        self._facts: NodeFacts | None = None
        self._facts_at = 0.0
        self._pruned = time.monotonic()
        self._at_work: set[str] = set()
        self._looked: dict[str, float] = {}
        self._said: dict[str, tuple[Mark, Observed | None]] = {}
        self._missed: frozenset[UUID] = frozenset()
        self._gathering = Gathering()
        self._waiting = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """List now and from now on at intervals; watch for changes."""
        self.list_all()
        self._ticker.add(self)
        for kind, hands in self._hands.items():
            threading.Thread(target=self._watch, args=(kind, hands), name=f"events-{self._node}", daemon=True).start()

    def soon(self) -> None:
        """A full list out of turn."""
        self._ticker.soon(self)

    def begin(self, native: str) -> None:
        """A step begins on a guest: what happens to it from now on is the step's to say, once, when it looks."""
        with self._lock:
            self._at_work.add(native)

    def looking(self, native: str) -> None:
        """The step looks right now."""
        with self._lock:
            self._at_work.discard(native)
            self._looked[native] = time.time()
            self._gathering.spoken(native, time.monotonic())  # by the step, as soon as its end is in the journal

    def said(self, native: str, mark: Mark, state: Observed | None) -> None:
        """What was said of a guest with this mark, by a step or here; None where it is not there."""
        with self._lock:
            known = self._said.get(native)
            if native in self._looked and (known is None or known[0] < mark):
                self._said[native] = mark, state

    def end(self, native: str) -> None:
        """The step is over, whether it looked or not."""
        with self._lock:
            self._at_work.discard(native)
            if len(self._looked) > LOOKS_KEPT:
                limit = time.time() - LAG
                self._looked = {name: when for name, when in self._looked.items() if when > limit}
                self._said = {name: last for name, last in self._said.items() if name in self._looked}

    def next_in(self) -> float:
        """Seconds until the next full list; jittered by a tenth, so that a thousand nodes do not speak at once."""
        return self._interval * random.uniform(0.9, 1.1)

    def list_all(self) -> None:
        """Look at everything and say it, with the digest for the server: that is its sign of life, so it is said also where
        some driver could not look (and then at once, with the facts that are known)."""
        expected = {row.ve for row in self._journal.ves() if row.presence is Presence.PRESENT}
        mark = self._reporter.mark()
        guests: list[Seen] = []
        usage: list[Usage] = []
        full = True
        for kind, hands in self._hands.items():
            try:
                listed = hands.list()
                guests += listed.guests
                usage += listed.metered.usage
                if listed.metered.trouble:
                    log.warning("what the %s guests use is not known: %s", kind, listed.metered.trouble)
            except DriverError as error:
                log.warning("could not look at the %s guests, so nothing is said about them: %s", kind, error)
                full = False
            except Exception:
                log.exception("could not look at the %s guests, so nothing is said about them", kind)
                full = False
        now = time.time()
        for guest in guests:
            self._book.discover(guest)
        merged = tuple(map(self._book.merge, guests))
        facts = self._current_facts(fresh=full)
        for each in merged:
            self.said(each.native, mark, each.state)
        if full or merged:
            self._reporter.say(Sighting(self._node, mark, now, full=full, guests=merged, facts=facts))
        if not full:
            expected = set()
        seen = {guest.ve for guest in guests}
        unfinished = self._journal.unfinished()
        # Its guest may be gone by now, by order; that it ended is written down before the step is over.
        leaving = {row.order.ve for row in unfinished if row.order is not None and row.order.verb in REMOVING}
        missing = [
            ve
            for ve in expected - seen - leaving
            if (row := self._journal.ve(ve)) is not None and row.presence is Presence.PRESENT
        ]
        working = tuple((row.job, row.step, row.attempt) for row in unfinished)
        self._reporter.say(
            Digest(
                self._node,
                mark,
                now,
                count=len(guests),
                facts=facts,
                missing=tuple(sorted(missing)),
                images=self._images(),
                working=working,
                full=full,
                usage=tuple(usage),
            )
        )
        before, self._missed = self._missed, frozenset(missing)
        if self._missed - before:
            self.soon()  # what the next list does not show either is lost
        if time.monotonic() - self._pruned > PRUNE_SECONDS:
            self._pruned = time.monotonic()
            self._journal.prune(now)

    def _current_facts(self, *, fresh: bool) -> NodeFacts:
        if self._facts is None or (fresh and time.monotonic() - self._facts_at > FACTS_SECONDS):
            self._prepare()
            healthy = []
            for kind, hands in self._hands.items():
                try:
                    found = hands.fingerprint()
                except (CannotLook, OSError) as error:
                    log.warning("the %s driver is not usable: %s", kind, error)
                    continue
                if found.healthy:
                    healthy.append(kind)
                else:
                    log.warning("the %s driver is not usable: %s", kind, found.detail)
            self._facts, self._facts_at = self._make_facts(tuple(healthy)), time.monotonic()
        return self._facts

    def _watch(self, kind: Kind, hands: Hands) -> None:
        pause = SOURCE_LOST[0]
        while True:
            began = time.monotonic()
            try:
                for said in hands.events(self._wanted):
                    if isinstance(said, Gone):
                        self._gone(said.native)
                    else:
                        self._take(replace(said, since=said.since or time.time()))
            except DriverError as error:
                log.warning("the events of the %s guests are lost for now: %s", kind, error)
            except Exception:
                log.exception("watching the %s guests failed", kind)
            pause = SOURCE_LOST[0] if time.monotonic() - began > STEADY else pause
            time.sleep(pause)
            pause = min(pause * 2, SOURCE_LOST[1])

    def _wanted(self, native: str) -> bool:
        """Whether a change of this guest is worth a look: what a step does, the step says."""
        with self._lock:
            return native not in self._at_work

    def _take(self, seen: Seen) -> None:
        """Say what an event shows, at once or a moment later."""
        with self._lock:
            now = time.monotonic()
            if not self._gathering.first(seen, now):
                self._wait(self._gathering.next_in(now))
                return
        self._tell((seen,))

    def _wait(self, seconds: float | None) -> None:
        """Have :meth:`_tell_due` called. The lock is held."""
        if seconds is None or self._waiting:
            return
        self._waiting = True
        later = threading.Timer(seconds, self._tell_due)
        later.daemon = True
        later.start()

    def _tell_due(self) -> None:
        with self._lock:
            self._waiting = False
            now = time.monotonic()
            due = self._gathering.due(now)
            self._wait(self._gathering.next_in(now))
        self._tell(due)

    def _tell(self, seen: Sequence[Seen]) -> None:
        now = time.time()
        with self._lock:
            news = [each for each in seen if not self._is_old(each, now)]
        if not news:
            return
        self._say(self._reporter.mark(), news)

    def _say(self, mark: Mark, seen: Sequence[Seen]) -> None:
        for each in seen:
            self.said(each.native, mark, each.state)
        self._reporter.say(Sighting(self._node, mark, time.time(), full=False, guests=tuple(map(self._book.merge, seen))))

    def _is_old(self, seen: Seen, now: float) -> bool:
        """Whether a step says it, or has said later words. The lock is held."""
        looked = self._looked.get(seen.native, 0.0)
        if seen.native in self._at_work:
            return True
        if now - looked >= LAG or seen.since > looked:
            return False
        _, last = self._said.get(seen.native, (None, None))
        if seen.state not in (Observed.STARTING, Observed.STOPPING, last):
            # Such as a freeze by hand right after the step: a guest's time is that of its start.
            threading.Thread(target=self._look_again, args=(seen,), name=f"look-{seen.native}", daemon=True).start()
        return True

    def _look_again(self, seen: Seen) -> None:
        mark = self._reporter.mark()
        try:
            found = self._hands[seen.kind].inspect(seen.native)
        except Exception as error:
            log.warning("could not look at %s again: %s", seen.native, error)
            return
        with self._lock:
            if found is None or seen.native in self._at_work:
                return
        self._say(mark, (replace(found, since=found.since or time.time()),))

    def _gone(self, native: str) -> None:
        """A guest was removed: by a step, which says so; behind our back, which lists will show; or it was not ours."""
        with self._lock:
            self._gathering.drop(native)
            if native in self._at_work:
                return
        known = [row.presence for row in self._journal.ves() if row.native == native]
        if Presence.PRESENT in known:
            self.soon()
        elif not known:
            self._reporter.say(Sighting(self._node, self._reporter.mark(), time.time(), full=False, left=(native,)))


class Ticker:
    """One thread that has all observers of a process list when their time has come."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._heap: list[tuple[float, int, Observer]] = []
        self._due: dict[Observer, float] = {}
        self._last: dict[Observer, float] = {}
        self._tie = itertools.count()
        self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def add(self, observer: Observer) -> None:
        """``observer`` has just listed. A list that was asked for meanwhile comes first."""
        when = time.monotonic() + observer.next_in()
        with self._condition:
            self._last.setdefault(observer, time.monotonic())
            if self._due.get(observer, float("inf")) <= when:
                return
        self._set(observer, when)

    def soon(self, observer: Observer) -> None:
        """As soon as its last list is not too recent."""
        when = max(time.monotonic(), self._last.get(observer, 0.0) + GAP)
        with self._condition:
            if when >= self._due.get(observer, float("inf")):
                return
        self._set(observer, when)

    def _set(self, observer: Observer, when: float) -> None:
        with self._condition:
            self._due[observer] = when
            heapq.heappush(self._heap, (when, next(self._tie), observer))
            if self._heap[0][2] is observer:
                self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._heap or self._heap[0][0] > time.monotonic():
                    self._condition.wait(self._heap[0][0] - time.monotonic() if self._heap else None)
                when, _, observer = heapq.heappop(self._heap)
                if self._due.get(observer) != when:
                    continue  # it was set to another time since
                del self._due[observer]
                self._last[observer] = time.monotonic()
            try:
                observer.list_all()
            except Exception:
                log.exception("a full list failed")
            self.add(observer)
