"""One process that stands for many simulated nodes, each with its own identity, broker user, journal and guests."""

from __future__ import annotations

import logging
import signal
import threading

from vmcloud.config import Config
from vmcloud.dispatch.receive import Lost, Receiver
from vmcloud.dispatch.routes import node_list

from .agent import Agent
from .observer import Ticker

log = logging.getLogger(__name__)

LISTEN = 10.0
"""Seconds between two looks at whether to end."""
RECONNECT = 2.0


def run(config: Config) -> int:
    """Be all of them until SIGTERM or SIGINT; the exit code."""
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    ticker = Ticker()
    ticker.start()
    agents = [Agent(config, name, ticker, number=number) for number, name in enumerate(config.node.names, 1)]
    for agent in agents:
        agent.start()
        threading.Thread(target=_listen, args=(config, agent, ending), name=f"orders-{agent.name}", daemon=True).start()
    log.info("%d simulated nodes are ready.", len(agents))
    ending.wait()
    for agent in agents:
        agent.stop(5.0 / len(agents))
    return 0


def _listen(config: Config, agent: Agent, ending: threading.Event) -> None:
    receiver = Receiver(config, f"node-{agent.name}", [node_list(agent.name)])
    while not ending.is_set():
        try:
            texts = [argument for _, argument in receiver.get(LISTEN) if isinstance(argument, str)]
            if texts and not ending.is_set():
                agent.order(texts)
        except Lost as error:
            log.warning("%s: the broker is away: %s", agent.name, error)
            ending.wait(RECONNECT)
        except Exception:
            log.exception("%s: orders were not taken; the server asks again", agent.name)
    receiver.close()
