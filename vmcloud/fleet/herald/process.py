"""The herald's loop: gather, send, write down; and in a thread beside it, the hooks at the server."""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time

from django.db import close_old_connections, connection

from vmcloud.config import Config
from vmcloud.domain.webhooks import headers, why_not
from vmcloud.fleet.database import AWAY
from vmcloud.fleet.models import Lease
from vmcloud.fleet.server.leader import NAME
from vmcloud.fleet.services import webhooks

from . import outbox
from .events import EventHooks
from .gather import Line
from .outbox import Bundle, Message
from .post import Answer, Post

log = logging.getLogger("herald")

TICK = 0.3
"""Seconds between two looks at the feed."""
LEASE_LOOK = 1.0
UPKEEP = 60.0
SENDERS = 8
"""Receivers that are spoken to at once."""
BUNDLE_SECONDS = 10.0
"""Seconds after which a receiver that is not through with its messages lets others go first."""
PARTING = 3.0
"""Seconds that the process gets to end by itself."""


class Herald:
    """See the module. ``holder`` and ``epoch``: the leadership that it serves and ends with."""

    def __init__(self, config: Config, holder: str, epoch: int) -> None:
        self._config, self._holder, self._epoch = config, holder, epoch
        self._line = Line(webhooks.LINE)
        self._ended: queue.SimpleQueue[tuple[Post, Bundle, list[tuple[Message, Answer]]]] = queue.SimpleQueue()
        self._busy: dict[int, Post] = {}
        self._ending = threading.Event()
        self._looked = self._kept = float("-inf")

    def run(self) -> None:
        """Until the leadership ends."""
        threading.Thread(target=self._hear_the_end, name="end", daemon=True).start()
        hooks = EventHooks(self._config, self._ending)
        threading.Thread(target=hooks.run, name="hooks", daemon=True).start()
        log.info("the herald is at work")
        while not self._ending.is_set():
            try:
                if not self._serves():
                    log.info("another server leads; its herald goes on")
                    self._ending.set()
                    break
                self._turn()
            except AWAY as error:
                log.warning("the job database does not answer: %s", error)
                close_old_connections()
                self._ending.wait(1.0)
        connection.close()

    def _hear_the_end(self) -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        self._ending.set()
        time.sleep(PARTING)
        os._exit(0)

    def _serves(self) -> bool:
        now = time.monotonic()
        if now - self._looked < LEASE_LOOK:
            return True
        self._looked = now
        return Lease.objects.filter(name=NAME, holder=self._holder, epoch=self._epoch).exists()

    def _turn(self) -> None:
        """One look at everything."""
        happenings, place = self._line.news()
        if place is not None:
            outbox.keep(happenings, self._line, place)
        if len(self._busy) < SENDERS:
            for bundle in outbox.due(time.time(), self._busy, SENDERS - len(self._busy)):
                self._send(bundle)
        if time.monotonic() - self._kept > UPKEEP:
            self._kept = time.monotonic()
            outbox.prune(time.time())
        self._take_in()

    def _take_in(self) -> None:
        """Write down what has ended, or wait a moment."""
        patience = TICK
        while True:
            try:
                _, bundle, answers = self._ended.get(timeout=patience)
            except queue.Empty:
                break
            outbox.record(bundle.webhook, answers, self._config.webhooks)
            self._busy.pop(bundle.webhook, None)
            patience = 0.0
        for post in self._busy.values():
            post.look(time.monotonic())

    def _send(self, bundle: Bundle) -> None:
        settings = self._config.webhooks

        def refusal(address: str) -> str:
            return why_not(address, admin=bundle.admin, networks=settings.networks)

        post = self._busy[bundle.webhook] = Post(bundle.url, refusal, settings.seconds)
        threading.Thread(target=self._speak, args=(post, bundle), name="send", daemon=True).start()

    def _speak(self, post: Post, bundle: Bundle) -> None:
        """Send messages one after the other, to the first that fails. Touches no database."""
        answers: list[tuple[Message, Answer]] = []
        try:
            end = time.monotonic() + BUNDLE_SECONDS
            for message in bundle.messages:
                answer = post.send(message.body, headers(bundle.secret, message.event, time.time(), message.body))
                answers.append((message, answer))
                if not answer.ok or time.monotonic() > end or self._ending.is_set():
                    break
        except Exception:
            log.exception("a message to webhook %d could not be sent", bundle.webhook)
            answers.append((bundle.messages[len(answers)], Answer(error="internal error; the server's log says more")))
        finally:
            post.close()
            self._ended.put((post, bundle, answers))
