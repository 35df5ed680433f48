"""The leader's loop: wait for something, take all of it in, do what can be done, say so in one sentence."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from uuid import UUID

from django.db import close_old_connections

from vmcloud.config import Config
from vmcloud.directory.errors import Unavailable
from vmcloud.dispatch import alive, envelope
from vmcloud.dispatch.receive import Receiver
from vmcloud.dispatch.routes import SERVER_LIST, server_list
from vmcloud.dispatch.send import OrderSender
from vmcloud.domain.errors import VmcloudError
from vmcloud.fleet import database, gather, ports
from vmcloud.fleet.models import Node
from vmcloud.fleet.services import queries

from . import (
    abandon,
    admit,
    finish,
    foreign,
    glance,
    intake,
    liveness,
    memory,
    mend,
    orders,
    own_steps,
    removals,
    schedule,
    sweep_claims,
)
from .context import Context
from .heralding import HeraldKeeper
from .inbox import Inbox, Item
from .leader import Deposed, Leader, Renewal
from .projection import Projection
from .quarantine import stage
from .upkeep import Upkeep

log = logging.getLogger("server")

TICK = 1.0
"""Seconds between looks when nothing comes."""
DATABASE_PAUSE = 0.5
"""Seconds until a job database that did not answer is asked again."""
WATCH_PATIENCE = 15.0
"""Seconds that the watch may be behind while the directory answers."""
MENDED_SINGLY = 200
"""Changed VEs up to which reconcile looks at these alone."""
TOGETHER = 0.05
"""Seconds after a turn in which what the directory tells is gathered for the next, where no job waits for it: many changes are
then few commits, on a disk that the directory may share."""
SWEEP = 5.0
"""Seconds between sweeps of what a crash may have left."""


class Server:
    """One server process: stands by until it leads, then leads until it is stopped or deposed."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.secrets = config.secrets("server")
        self.leader = Leader(f"{socket.gethostname()}:{os.getpid()}", config.intervals.lease)
        self.stopping = threading.Event()
        self.upkeep = Upkeep()

    def run(self) -> None:
        """Until :attr:`stopping` is set."""
        log.info("server starts; standing by for the lease")
        while not self.stopping.is_set():
            alive.beat()
            try:
                if self.leader.campaign():
                    self._lead()
            except Deposed as error:
                log.warning("%s", error)
            except database.AWAY as error:
                self._miss_database(error)
            self.stopping.wait(min(TICK, self.leader.term / 5))

    def _lead(self) -> None:
        log.info("leads in epoch %d", self.leader.epoch)
        directory = ports.directory()
        sender = OrderSender(
            ports.sender(),
            envelope.private_key(self.secrets["private_key"]),
            lifetime=self.config.intervals.order_expiry,
        )
        lists = [SERVER_LIST, *(server_list(name) for name in Node.objects.values_list("name", flat=True))]
        inbox = Inbox(Receiver(self.config, "server", lists), directory)
        changed = memory.Set[UUID]()
        context = Context(self.config, directory, sender, self.leader, Projection(differs=changed.add), changed=changed)
        renewal = Renewal(self.leader, self.config.intervals.turn, inbox.interrupt)
        herald = HeraldKeeper(self.config, self.leader.holder, self.leader.epoch)
        inbox.start()
        renewal.start()
        herald.start()
        try:
            turns = Turns(context, inbox, self.upkeep)
            while not self.stopping.is_set():
                alive.beat()
                try:
                    turns.one()
                except database.AWAY as error:
                    self._miss_database(error)
                    turns.begin_anew()
                except Deposed:
                    raise
                except gather.Clash as clash:
                    log.info("what came is taken in again: %s", clash)
                except Exception:
                    log.exception("a turn broke off; the next one begins")
                    self.stopping.wait(TICK)
        finally:
            renewal.stop()
            inbox.stop()
            herald.stop()
            self.leader.resign()

    def _miss_database(self, error: Exception) -> None:
        """Nothing was written: what is known stays known, and a moment later it goes on from there, if nobody else leads then."""
        log.error("%s: %s", database.unavailable(error).problem.what, error)
        close_old_connections()
        self.stopping.wait(DATABASE_PAUSE)


class Turns:
    """The turns of one leadership, and when each part of them is due."""

    def __init__(self, context: Context, inbox: Inbox, upkeep: Upkeep, steady: Callable[[], float] = time.monotonic) -> None:
        self._context, self._inbox, self._upkeep, self._steady = context, inbox, upkeep, steady
        self._behind_since = steady()
        self._last_news = 0.0
        self.begin_anew()

    def begin_anew(self) -> None:
        """Everything is due: what the last turn was about to do may not have been done."""
        self._last_resend = self._last_mend = self._last_sweep = float("-inf")

    def one(self) -> None:
        """Wait until something comes or is due; take it in; do what can be done. Raises :class:`Deposed`, and the errors of a
        database that is away: then nothing is lost, and the next turn goes on."""
        context, intervals = self._context, self._context.config.intervals
        items = self._come()
        now = self._steady()
        self._last_news = now if items else self._last_news
        intake.run(context, self._inbox, items)
        due = now - self._last_resend >= min(TICK, intervals.resend)
        if not (items or context.again or due):
            return
        context.again = False
        stage(context, removals.run)
        stage(context, foreign.run)
        seen = glance.look(context.clock())
        if seen.ending:
            stage(context, finish.run)
        if context.projection.whole:
            if seen.changed or seen.come or context.touched or due:
                stage(context, admit.run)
            if context.projection.synced or not context.projection.down:
                stage(context, schedule.run)
                stage(context, own_steps.run)
        if due or context.stale:
            stage(context, abandon.run)
        if context.to_cancel:
            stage(context, orders.cancel_due)
        if due:
            stage(context, orders.end_overdue)
            stage(context, schedule.take_up)
            stage(context, orders.resend)
            stage(context, liveness.tell)
            self._last_resend = now
        self._mend(now)
        if now - self._last_sweep >= min(SWEEP, intervals.claim):
            stage(context, self._sweep)
            self._last_sweep = now
        self._behind_since = now if context.projection.synced else self._behind_since
        if now - self._behind_since > WATCH_PATIENCE and self._answers():
            raise Deposed("the directory answers and its watch does not come back; it begins anew")

    def _come(self) -> list[Item]:
        """What has come and is not acknowledged."""
        inbox, context = self._inbox, self._context
        context.leader.begin_stage()
        items = inbox.look(0.0 if context.again else TICK)
        while intake.only_news(items) and (left := self._last_news + TOGETHER - self._steady()) > 0:
            if queries.changing().exists() or len(more := inbox.look(left, beyond=len(items))) == len(items):
                break
            items = more
        context.leader.check()
        if not inbox.alive():
            raise Deposed("it hears nothing any more and begins anew")
        return items

    def _mend(self, now: float) -> None:
        """Reconcile: all now and then, and at once what changed. Nothing before the watch has told all there is."""
        context = self._context
        if not context.projection.whole:
            return
        if now - self._last_mend >= context.config.intervals.reconcile:
            stage(context, mend.run)
            self._last_mend = now
        elif context.changed:
            stage(context, mend.run, only=frozenset(context.changed) if len(context.changed) <= MENDED_SINGLY else None)
        context.changed.clear()

    def _answers(self) -> bool:
        try:
            self._context.directory.check()
        except VmcloudError:
            return False
        return True

    def _sweep(self, context: Context) -> None:
        try:
            sweep_claims.sweep(context)
        except Unavailable as error:
            context.projection.down = str(error)
        self._upkeep.run(context)
