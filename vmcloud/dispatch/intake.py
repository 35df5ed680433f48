"""Taking in what comes on a Celery worker's lists: together what waits together, and acknowledged once it was taken in.

Celery makes a request of each message, hands it to a thread of its pool, and takes the next one when that is acknowledged: a node
that is asked for fifty things at once would write its journal fifty times. The strategy of a task is Celery's own place to decide
what becomes of its messages (celery.worker.strategy, used so by celery-batches).
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

log = logging.getLogger(__name__)

AHEAD = 100
"""How many messages are taken from the broker before the first of them is acknowledged."""


class Intake:
    """``take`` is called in a thread of its own, with the arguments of all messages that have come; what it raises is logged, and
    the messages are done with: whoever sent them asks again."""

    def __init__(self, take: Callable[[Sequence[Any]], None]) -> None:
        self._take = take
        self._queue: queue.SimpleQueue[tuple[Any, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        """Begin to take in."""
        self._thread.start()

    def stop(self) -> None:
        """Take in what has come, then end. What could not be acknowledged comes again."""
        self._queue.put(None)
        self._thread.join()

    def strategy(self, task: Any, app: Any, consumer: Any, **_: Any) -> Callable[..., None]:
        """See ``celery.app.task.Task.Strategy``: what to do with a message, on the consumer's thread."""

        def handle(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **_: Any) -> None:
            self._queue.put((message, consumer))

        return handle

    def _run(self) -> None:
        ended = False
        while not ended:
            waiting = [self._queue.get()]
            while not self._queue.empty():
                waiting.append(self._queue.get())
            ended = None in waiting
            taken = [each for each in waiting if each is not None]
            if not taken:
                continue
            self._take_in([argument for message, _ in taken for argument in _arguments(message)])
            for consumer in {id(consumer): consumer for _, consumer in taken}.values():
                # On the consumer's thread, whose connection it is.
                consumer.call_soon(_acknowledge, consumer, [message for message, other in taken if other is consumer])

    def _take_in(self, arguments: Sequence[Any]) -> None:
        try:
            self._take(arguments)
        except Exception:
            if len(arguments) == 1:
                log.exception("a message was not taken in; its sender asks again")
                return
            for each in arguments:  # what is wrong with one must not take the others with it
                self._take_in([each])


def _arguments(message: Any) -> list[Any]:
    """The one argument of a task message; nothing where it has none."""
    try:
        ((argument,), _, _) = message.decode()
        return [argument]
    except Exception as error:
        log.error("dropped a malformed message: %s", f"{type(error).__name__}: {error}"[:300])
        return []


def _acknowledge(consumer: Any, messages: Sequence[Any]) -> None:
    channels = {id(message.channel): message.channel for message in messages}
    for channel in channels.values():
        tags = [message.delivery_tag for message in messages if message.channel is channel]
        try:
            channel.qos.ack_all(tags)
        except (*consumer.connection_errors, *consumer.channel_errors) as error:
            log.warning("%d messages are not acknowledged, so they come again: %s", len(tags), error)
