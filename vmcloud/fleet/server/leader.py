"""The lease: one server decides at a time, and each of its writes proves that it still may.

The lease is renewed by each transaction of the leader, and beside its turn by a thread (:class:`Renewal`), so that a turn may
take longer than a lease. A process that is killed or stands still renews nothing; a turn that hangs is found by a watchdog in
that thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connection, transaction
from django.db.models import F, Q, QuerySet

from vmcloud.fleet.database import AWAY
from vmcloud.fleet.models import Lease

from . import memory

log = logging.getLogger("server")

NAME = "server"
SHARE = 1 / 3
"""Part of its term after which a lease is renewed beside the turn: two attempts may fail before it runs out, and an idle leader
makes as few commits as that allows."""
PAUSE = 0.05
"""Shortest pause of the renewing thread, in seconds: also after a renewal that failed."""


class Deposed(Exception):
    """This server no longer leads; what it was about to write was not written."""


class Leader:
    """This process's claim to lead. ``term``: seconds that a lease lasts unless renewed; ``steady``: a clock that nobody sets."""

    def __init__(
        self,
        holder: str,
        term: float,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.holder, self.term, self.clock, self.steady = holder, term, clock, steady
        self.epoch = 0
        self.lost = ""
        """Why this server leads no more, although it did; empty while nothing speaks against it."""
        self._renewed = 0.0
        self._stage_since = 0.0
        self._inside = False
        self._seen: tuple[str, int, float] | None = None
        self._seen_since = 0.0

    def campaign(self) -> bool:
        """Take the lease if it is free, run out, or was this holder's. True: this server leads, with a new epoch.

        Its end is a time by the clock of whoever wrote it, which may differ from this one's, or have been set back since. So
        one that nobody has renewed for a term, while this server looked on, has run out whatever it says.
        """
        now, began = self.clock(), self.steady()
        row = Lease.objects.get_or_create(name=NAME)[0]
        if (found := (row.holder, row.epoch, row.expires)) != self._seen:
            self._seen, self._seen_since = found, self.steady()
        free = Q(expires__lt=now) | Q(holder="") | Q(holder=self.holder)
        if self.steady() - self._seen_since > self.term:
            free |= Q(holder=row.holder, epoch=row.epoch, expires=row.expires)
        with transaction.atomic():
            lease = Lease.objects.filter(free, name=NAME)
            if not lease.update(holder=self.holder, epoch=F("epoch") + 1, expires=now + self.term, listens_since=0.0):
                return False
            self.epoch = Lease.objects.values_list("epoch", flat=True).get(name=NAME)
        self.lost, self._renewed, self._stage_since = "", began, self.steady()
        return True

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction in which this server certainly leads; renews the lease. :class:`Deposed` otherwise, nothing written.

        What is changed meanwhile in the leader's :mod:`.memory` stays only if the transaction is committed. Within another one
        it is a part of that, which may fail alone.
        """
        if self._inside:
            with memory.undoing(), transaction.atomic():
                yield
            return
        self.check()
        with memory.undoing(), transaction.atomic():
            began = self.steady()
            self._renew()
            self._inside = True
            try:
                yield
            finally:
                self._inside = False
            if (now := self.steady()) - began > self.term * SHARE:
                began = now
                self._renew()
        self._renewed = max(began, self._renewed)

    def renew(self) -> None:
        """Renew the lease without any other write; :class:`Deposed` if this server does not lead."""
        with transaction.atomic():
            self._mine().select_for_update().first()  # where a transaction of ours has the row, the new term begins after it
            began = self.steady()
            self._renew()
        self._renewed = max(began, self._renewed)

    @property
    def due_in(self) -> float:
        """Seconds until the lease is to be renewed, if nobody does so before."""
        return self._renewed + self.term * SHARE - self.steady()

    def begin_stage(self) -> None:
        """A part of the turn begins that the watchdog times for itself. :class:`Deposed` if this server leads no more."""
        self.check()
        self._stage_since = self.steady()

    @property
    def stage_seconds(self) -> float:
        """How long the present part of the turn has taken so far."""
        return self.steady() - self._stage_since

    def check(self) -> None:
        """:class:`Deposed` if it is known that this server leads no more."""
        if self.lost:
            raise Deposed(self.lost)

    def lose(self, why: str) -> None:
        """Lead no more: not one transaction is begun from now on."""
        self.lost = self.lost or why

    def listens(self, since: float) -> None:
        """Write down since when this leader has heard the broker without a break (seconds since the epoch; 0.0: it does not);
        inside a transaction. A node's silence counts only for as long."""
        self._mine().update(listens_since=since)

    def resign(self) -> None:
        """Let another lead at once."""
        self._mine().update(holder="", expires=0.0, listens_since=0.0)

    def _mine(self) -> QuerySet[Lease]:
        return Lease.objects.filter(name=NAME, holder=self.holder, epoch=self.epoch)

    def _renew(self) -> None:
        if not self._mine().update(expires=self.clock() + self.term):
            self.lose(f"{self.holder} was leader in epoch {self.epoch}; another server leads now")
            self.check()


class Renewal:
    """Renews the lease beside the turn, from a thread with a database connection of its own.

    ``patience``: seconds that one part of a turn may take until it is taken for hung; then the lease is not renewed any more, so
    that another server leads after a term, and this one begins nothing, should its turn go on after all. ``on_loss`` is called
    once, when this server leads no more: what still listens for it must not take away what its successor should hear.
    """

    def __init__(self, leader: Leader, patience: float, on_loss: Callable[[], object]) -> None:
        self._leader, self._patience, self._on_loss = leader, patience, on_loss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def stop(self) -> None:
        """End it; a renewal that is under way is waited for, a term at most."""
        self._stop.set()
        self._thread.join(self._leader.term)

    def look(self) -> bool:
        """Renew the lease if it is due; False: this server leads no more."""
        leader = self._leader
        if leader.stage_seconds > self._patience:
            leader.lose(f"a part of its turn takes longer than {self._patience:g} s; it leads no more, and begins anew after it")
        try:
            if not leader.lost and leader.due_in <= 0:
                leader.renew()
        except Deposed:
            pass
        if leader.lost:
            log.error("%s", leader.lost)
            self._on_loss()
        return not leader.lost

    def _run(self) -> None:
        try:
            while not self._stop.is_set() and self._look():
                self._stop.wait(max(self._leader.due_in, PAUSE))
        finally:
            connection.close()

    def _look(self) -> bool:
        try:
            return self.look()
        except AWAY as error:  # the leader's own transactions meet the same; a term later another server may lead
            log.warning("the lease could not be renewed: %s", error)
        except Exception:
            log.exception("the lease could not be renewed")
        connection.close()
        return True
