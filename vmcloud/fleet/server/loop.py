"""The leader's loop: wait for something, take all of it in, do what can be done, say so in one sentence."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from itertools import groupby
from uuid import UUID

from django.db import close_old_connections

from vmcloud.config import Config
from vmcloud.directory import port
from vmcloud.directory.errors import Unavailable
from vmcloud.dispatch import envelope
from vmcloud.dispatch.receive import Receiver
from vmcloud.dispatch.routes import SERVER_LIST, server_list
from vmcloud.dispatch.send import OrderSender
from vmcloud.domain.errors import VmcloudError
from vmcloud.domain.records import NodeRecord, VERecord
from vmcloud.fleet import database, ports
from vmcloud.fleet.models import Liveness, Node, Step
from vmcloud.fleet.services import queries

from . import abandon, admit, finish, foreign, glance, liveness, mend, orders, removals, replies, schedule, sweep_claims, wanted
from .context import Context
from .heralding import HeraldKeeper
from .inbox import Broker, Inbox, Item, Report
from .leader import Deposed, Leader
from .projection import Projection
from .upkeep import Upkeep

log = logging.getLogger("server")

TICK = 1.0
"""Seconds between looks when nothing comes."""
DATABASE_PAUSE = 0.5
"""Seconds until a job database that did not answer is asked again."""
TAKEN_AT_ONCE = 200
"""Items of the inbox in one transaction: others write between two of them."""
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
        directory, changed = ports.directory(), set[UUID]()
        sender = OrderSender(
            ports.sender(),
            envelope.private_key(self.secrets["private_key"]),
            lifetime=self.config.intervals.order_expiry,
        )
        lists = [SERVER_LIST, *(server_list(name) for name in Node.objects.values_list("name", flat=True))]
        inbox = Inbox(Receiver(self.config, "server", lists), directory)
        projection = Projection(differs=changed.add)
        context = Context(self.config, directory, sender, self.leader, projection, changed=changed)
        herald = HeraldKeeper(self.config, self.leader.holder, self.leader.epoch)
        inbox.start()
        herald.start()
        try:
            while not self.stopping.is_set():
                try:
                    self._cycles(context, inbox)
                except database.AWAY as error:
                    self._miss_database(error)
        finally:
            inbox.stop()
            herald.stop()
            self.leader.resign()

    def _miss_database(self, error: Exception) -> None:
        """Nothing was written: what is known stays known, and a moment later it goes on from there, if nobody else leads then."""
        log.error("%s: %s", database.unavailable(error).problem.what, error)
        close_old_connections()
        self.stopping.wait(DATABASE_PAUSE)

    def _cycles(self, context: Context, inbox: Inbox) -> None:
        last_sweep = last_resend = last_renewal = last_mend = last_news = 0.0
        behind_since = time.monotonic()
        while not self.stopping.is_set():
            if not inbox.alive():
                raise Deposed("it hears nothing any more and begins anew")
            items = [] if context.again else inbox.take(TICK)
            items = items or inbox.take(0)
            while _only_news(items) and (left := last_news + TOGETHER - time.monotonic()) > 0 and not queries.changing().exists():
                items += inbox.take(left)
            now = time.monotonic()
            last_news = now if items else last_news
            if not _only_wakes(items) or now - last_renewal > self.leader.term / 3:
                for start in range(0, max(1, len(items)), TAKEN_AT_ONCE):
                    self._take_in(context, inbox, items[start : start + TAKEN_AT_ONCE])
                last_renewal = now
            due = now - last_resend >= min(TICK, self.config.intervals.resend)
            if not (items or context.again or due):
                continue
            context.again = False
            removals.run(context)
            foreign.run(context)
            seen = glance.look(context.clock())
            if seen.ending:
                finish.run(context)
            if seen.changed or seen.come or context.touched or due:
                admit.run(context)
            if context.projection.synced or not context.projection.down:
                schedule.run(context)
            if due or context.stale:
                abandon.run(context)
            if due:
                last_resend = now
                orders.end_overdue(context)
                orders.resend(context)
                liveness.tell(context)
            if now - last_mend >= self.config.intervals.reconcile:
                last_mend = now
                mend.run(context)
            elif context.changed:
                mend.run(context, only=frozenset(context.changed) if len(context.changed) <= MENDED_SINGLY else None)
            context.changed.clear()
            if now - last_sweep >= min(SWEEP, self.config.intervals.claim):
                last_sweep = now
                self._sweep(context)
            behind_since = now if context.projection.synced else behind_since
            if now - behind_since > WATCH_PATIENCE and self._answers(context):
                raise Deposed("the directory answers and its watch does not come back; it begins anew")

    def _take_in(self, context: Context, inbox: Inbox, items: list[Item]) -> None:
        """All items, also while the database is away: nobody says them again soon. One that it can not hold is dropped."""
        while not self.stopping.is_set():
            try:
                self._take(context, inbox, items)
                return
            except database.AWAY as error:
                self._miss_database(error)
            except database.UNFIT:
                if len(items) == 1:
                    log.exception("dropped what can not be written down: %.300s", items[0])
                    return
                for item in items:
                    self._take_in(context, inbox, [item])
                return

    @database.again
    def _take(self, context: Context, inbox: Inbox, items: list[Item]) -> None:
        """All items in one transaction; what they lead to is sent after it. What nodes say, and what the directory tells, come by
        two ways anyway: neither waits for the other's turn."""
        to_send: list[Step] = []
        new_nodes, silent, shown = False, list[str](), dict[UUID, VERecord]()
        with context.leader.transaction():
            if reports := [item for item in items if isinstance(item, Report)]:
                to_send += replies.handle(context, reports)
            told = (item for item in items if not isinstance(item, Report))
            for changes, group in groupby(told, lambda item: isinstance(item, port.Changed)):
                if changes:
                    records = [item.record for item in group if isinstance(item, port.Changed)]
                    context.projection.show(records)
                    new = [inbox.listen_to(server_list(each.name)) for each in records if isinstance(each, NodeRecord)]
                    new_nodes = any(new) or new_nodes
                    for each in records:
                        if isinstance(each, VERecord):
                            shown[each.ve] = each
                            context.entries.learn(each)
                    continue
                for item in group:
                    match item:
                        case Broker(up=up, reason=reason):
                            if up:
                                context.broker_down, silent = "", self._silent_nodes(context)
                            else:
                                context.lose_broker(reason)
                            context.again = context.again or up
                        case port.Malformed(ve=UUID() as ve):
                            context.projection.apply(item)
                            context.entries.forget(ve)
                            foreign.note(context, ve)
                        case port.Removed(kind="ve", key=key):
                            removals.note(context, UUID(key))
                            shown.pop(UUID(key), None)
                            context.entries.forget(UUID(key))
                            context.projection.apply(item)
                        case port.Synced():
                            context.projection.apply(item)
                            silent = self._silent_nodes(context)
                            removals.note_untold(context)
                        case port.Down():
                            context.projection.apply(item)
                            context.entries.clear()
                        case port.Removed() | port.Malformed():
                            context.projection.apply(item)
            if shown:
                wanted.learn(context, shown.values())
        if new_nodes:
            ports.sender().wake("nodes")
        for name in silent:
            orders.ask_for_list(context, name)
        orders.send(context, to_send)

    def _answers(self, context: Context) -> bool:
        try:
            context.directory.check()
        except VmcloudError:
            return False
        return True

    def _silent_nodes(self, context: Context) -> list[str]:
        """Nodes not heard of for a while: a new leader asks them at once instead of waiting for their next lists."""
        heard = dict(Liveness.objects.values_list("node", "heard_at"))
        limit = context.clock() - self.config.intervals.relist
        return [name for name in Node.objects.values_list("name", flat=True) if heard.get(name, 0.0) < limit]

    def _sweep(self, context: Context) -> None:
        try:
            sweep_claims.sweep(context)
        except Unavailable as error:
            context.projection.down = str(error)
        self.upkeep.run(context)


def _only_news(items: list[Item]) -> bool:
    """Whether all that came is what the directory's watch tells of entries."""
    return bool(items) and all(isinstance(item, port.Changed | port.Removed) for item in items)


def _only_wakes(items: list[Item]) -> bool:
    """Whether all that came says "look", and nothing to write down: a commit less (to the disk) on the way of every job."""
    return all(isinstance(item, Report) and item.list_name == SERVER_LIST for item in items)
