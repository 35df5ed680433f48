"""The lease: one server decides at a time, and each of its writes proves that it still may."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import transaction
from django.db.models import F, Q

from vmcloud.fleet.models import Lease

NAME = "server"


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
        self._seen: tuple[str, int, float] | None = None
        self._seen_since = 0.0

    def campaign(self) -> bool:
        """Take the lease if it is free, run out, or was this holder's. True: this server leads, with a new epoch.

        Its end is a time by the clock of whoever wrote it, which may differ from this one's, or have been set back since. So
        one that nobody has renewed for a term, while this server looked on, has run out whatever it says.
        """
        now = self.clock()
        row = Lease.objects.get_or_create(name=NAME)[0]
        if (found := (row.holder, row.epoch, row.expires)) != self._seen:
            self._seen, self._seen_since = found, self.steady()
        free = Q(expires__lt=now) | Q(holder="") | Q(holder=self.holder)
        if self.steady() - self._seen_since > self.term:
            free |= Q(holder=row.holder, epoch=row.epoch, expires=row.expires)
        with transaction.atomic():
            lease = Lease.objects.filter(free, name=NAME)
            if not lease.update(holder=self.holder, epoch=F("epoch") + 1, expires=now + self.term):
                return False
            self.epoch = Lease.objects.values_list("epoch", flat=True).get(name=NAME)
        return True

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction in which this server certainly leads; renews the lease. :class:`Deposed` otherwise, nothing written."""
        with transaction.atomic():
            mine = Lease.objects.filter(name=NAME, holder=self.holder, epoch=self.epoch)
            if not mine.update(expires=self.clock() + self.term):
                raise Deposed(f"{self.holder} was leader in epoch {self.epoch}; another server leads now")
            yield

    def resign(self) -> None:
        """Let another lead at once."""
        Lease.objects.filter(name=NAME, holder=self.holder, epoch=self.epoch).update(holder="", expires=0.0)
