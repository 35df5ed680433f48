"""Few processes that stand for many simulated nodes, each with its own identity, broker user, journal and guests.

One process has at most :data:`NODES_EACH` nodes: threads of one share an interpreter, and files of one have a limit. Where there
are more nodes, this process starts others, each for its share, and ends when one of them does.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Sequence

from vmcloud.config import Config
from vmcloud.dispatch.receive import Lost, Receiver
from vmcloud.dispatch.routes import node_list

from .agent import Agent
from .observer import Ticker

log = logging.getLogger(__name__)

NODES_EACH = 250
LISTEN = 10.0
"""Seconds between two looks at whether to end."""
RECONNECT = 2.0

Share = Sequence[tuple[int, str]]
"""Nodes with their numbers, which begin at 1."""


def run(config: Config) -> int:
    """Be all of them until SIGTERM or SIGINT; the exit code."""
    found = shares(config.node.names)
    return _be(config, found[0]) if len(found) == 1 else _lead(config, found)


def shares(names: Sequence[str]) -> list[Share]:
    """Which process has which nodes: as few processes as can be, of about the same size."""
    numbered = list(enumerate(names, 1))
    processes = -(-len(names) // NODES_EACH)
    return [numbered[process::processes] for process in range(processes)]


def _lead(config: Config, found: Sequence[Share]) -> int:
    """A process for each share. They are forked before there is any thread, so they share what has been loaded."""
    children: set[int] = set()
    wanted = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted | {signal.SIGCHLD})
    for share in found:
        if (pid := os.fork()) == 0:
            os._exit(_child(config, share, wanted | {signal.SIGCHLD}))
        children.add(pid)
    said = signal.sigwait(wanted | {signal.SIGCHLD})
    code = 0
    if said == signal.SIGCHLD:
        log.error("one of %d processes has ended; so do all", len(found))
        code = 1
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    for pid in children:
        os.waitpid(pid, 0)
    return code


def _child(config: Config, share: Share, blocked: set[signal.Signals]) -> int:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
    try:
        return _be(config, share)
    except BaseException:
        log.exception("the nodes from %s on do not start", share[0][1])
        return 1


def _be(config: Config, share: Share) -> int:
    """Be these nodes."""
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    ticker = Ticker()
    ticker.start()
    agents = [Agent(config, name, ticker, number=number) for number, name in share]
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
