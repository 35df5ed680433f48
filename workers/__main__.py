"""``python -m workers``: the worker of this machine, or of many simulated nodes. ``VMCLOUD_DATA`` says where its files are."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from vmcloud.config import Config
from vmcloud.dispatch.app import consumer_app
from vmcloud.dispatch.intake import AHEAD, Intake
from vmcloud.dispatch.routes import ORDER_TASK, node_list

from . import many
from .agent import Agent, AlreadyRunning
from .journal import JournalDamaged
from .observer import Ticker

log = logging.getLogger("workers")

PATIENCE = 5.0
"""Seconds that running steps get to end when the worker is told to."""


def main() -> int:
    """The exit code: 0 after SIGTERM, 1 where the worker can not begin."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s worker %(levelname)s %(name)s: %(message)s")
    try:
        config = Config.load()
        return many.run(config) if config.node.simulate else _one(config)
    except (AlreadyRunning, JournalDamaged, OSError, KeyError) as error:
        log.error("the worker does not start: %s", error)
        return 1


def _one(config: Config) -> int:
    ticker = Ticker()
    ticker.start()
    agent = Agent(config, config.node.name, ticker)
    # Root is meant: a worker makes containers. The tasks carry no pickles, which is what the warning is about.
    warnings.filterwarnings("ignore", message=".*superuser privileges")
    logging.getLogger("celery").setLevel(logging.WARNING)
    app = consumer_app(config, f"node-{agent.name}", [node_list(agent.name)], ahead=AHEAD)

    app.conf.worker_redirect_stdouts = False

    def take(arguments: Sequence[Any]) -> None:
        if texts := [argument for argument in arguments if isinstance(argument, str)]:
            agent.order(texts)

    intake = Intake(take)

    @app.task(name=ORDER_TASK, ignore_result=True, Strategy=intake.strategy)
    def order(text: Any) -> None:
        """Never called: the strategy takes its messages."""

    agent.start()
    intake.start()
    worker = app.Worker(
        pool="threads",
        concurrency=1,
        hostname=f"worker@{agent.name}",
        loglevel="INFO",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    intake.stop()
    agent.stop(PATIENCE)
    return int(worker.exitcode or 0)


if __name__ == "__main__":
    sys.exit(main())
