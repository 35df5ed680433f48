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
    """This process's claim to lead. ``term``: seconds that a lease lasts unless renewed."""

    def __init__(self, holder: str, term: float, clock: Callable[[], float] = time.time) -> None:
        self.holder, self.term, self.clock = holder, term, clock
        self.epoch = 0

    def campaign(self) -> bool:
        """Take the lease if it is free, run out, or was this holder's. True: this server leads, with a new epoch."""
        now = self.clock()
        Lease.objects.get_or_create(name=NAME)
        with transaction.atomic():
            free = Lease.objects.filter(name=NAME).filter(Q(expires__lt=now) | Q(holder="") | Q(holder=self.holder))
            if not free.update(holder=self.holder, epoch=F("epoch") + 1, expires=now + self.term):
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
