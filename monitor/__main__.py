"""``python -m monitor``: a Celery worker on the lists ``monitor`` and ``monitor.<node>``.

The environment variable ``VMCLOUD_DATA`` says where its files are.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import Any

from celery import bootsteps
from celery.exceptions import Reject
from celery.worker import state

from vmcloud.config import Config
from vmcloud.directory.errors import Denied, Unavailable
from vmcloud.directory.store import Directory
from vmcloud.dispatch import alive
from vmcloud.dispatch.app import add_list, consumer_app
from vmcloud.dispatch.routes import MONITOR_LIST, REPORT_TASK, monitor_list, speaker

from .consume import Intake, Stopping
from .publish import Publisher

log = logging.getLogger("monitor")

REFRESH = 10.0
"""Seconds between looks at which nodes there are: wake-ups may be lost."""

WAKE = 0.5
"""Seconds between looks at whether a wake-up has come."""

AT_ONCE = 4
"""Messages under way at once: a write waits for the disk twice (entry, access log), and the next need not wait for both."""

PATIENCE = 60.0
"""Seconds to wait for the directory at the start."""


class Nodes:
    """Keeps the worker reading one list for each node of the directory. Used on the consumer's thread only, save :meth:`wake`."""

    def __init__(self, app: Any, store: Directory) -> None:
        self._app = app
        self._store = store
        self._woken = threading.Event()
        self.consumer: Any = None

    def wake(self) -> None:
        """Look soon; from any thread."""
        self._woken.set()

    def refresh_if_woken(self) -> None:
        """Look, where that was wished."""
        if self._woken.is_set():
            self._woken.clear()
            self.refresh()

    def refresh(self) -> None:
        """Read the lists of nodes that came since."""
        if self.consumer is None or self.consumer.task_consumer is None:
            return
        try:
            names = [node.name for node in self._store.nodes()]
        except (Unavailable, Denied) as error:
            log.warning("can not look for new nodes: %s", error)
            return
        for name in names:
            add_list(self._app, self.consumer, monitor_list(name))


def main() -> int:
    """The exit code: 0 after SIGTERM, 1 where the monitor can not begin."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s monitor %(levelname)s %(name)s: %(message)s")
    # Celery sets the root logger to its own level, which must be WARNING: at INFO it says a line per message.
    logging.getLogger("monitor").setLevel(logging.INFO)
    try:
        config = Config.load()
        password = str(config.secrets("monitor")["directory_password"])
        store = Directory.of(config.directory_uri, config.suffix, "monitor", password)
        names = _first_nodes(store)
        app = consumer_app(config, "monitor", [MONITOR_LIST, *map(monitor_list, names)])
    except (OSError, KeyError, ValueError, Unavailable, Denied) as error:
        log.error("the monitor does not start: %s", error)
        return 1
    nodes = Nodes(app, store)
    intake = Intake(Publisher(store), nodes.wake, lambda: bool(state.should_stop is not None), time.sleep)

    @app.task(name=REPORT_TASK, bind=True, ignore_result=True, acks_late=True)
    def report(self: Any, data: Any) -> None:
        try:
            intake.take(speaker(self.request.delivery_info["routing_key"]), data)
        except Stopping as error:
            raise Reject("the directory is away", requeue=True) from error

    app.steps["consumer"].add(_follower(nodes, intake))
    worker = app.Worker(
        pool="threads",
        concurrency=AT_ONCE,
        hostname="monitor@central",
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def _first_nodes(store: Directory) -> list[str]:
    """Names of the nodes, waiting a while for the directory."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return [node.name for node in store.nodes()]
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _follower(nodes: Nodes, intake: Intake) -> type[bootsteps.StartStopStep]:
    """A step of Celery's consumer that keeps ``nodes`` up to date, and gives signs of life, from the consumer's own thread."""

    def live() -> None:
        if intake.answers(time.monotonic()):
            alive.beat()

    class Follower(bootsteps.StartStopStep):  # type: ignore[misc, unused-ignore]
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Any) -> None:
            nodes.consumer = consumer
            nodes.refresh()
            timer = consumer.timer
            calls = [(REFRESH, nodes.refresh), (WAKE, nodes.refresh_if_woken), (alive.EVERY, live)]
            self.timers = [timer.call_repeatedly(seconds, call) for seconds, call in calls]
            log.info("%d lists, ready.", len(consumer.app.amqp.queues))

        def stop(self, consumer: Any) -> None:
            for timer in getattr(self, "timers", ()):
                timer.cancel()
            nodes.consumer = None

    return Follower


if __name__ == "__main__":
    sys.exit(main())
