"""Connections to the directory that ask nothing are ended; our own go on all the same, the watch above all."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import ldap
import pytest

from ldap_schema import migrate
from ldap_schema.config import IDLE_SECONDS
from tests.slapd import SUFFIX, Slapd, slapd
from vmcloud.directory import client, port
from vmcloud.directory.watch import Watcher
from vmcloud.domain.records import NodeRecord

pytestmark = pytest.mark.integration
__all__ = ["slapd"]

SECONDS = 2


def idle_after(slapd: Slapd, seconds: int) -> None:
    connection = client.connect(client.Settings(slapd.ldapi))
    connection.modify_s("cn=config", [(ldap.MOD_REPLACE, "olcIdleTimeout", [str(seconds).encode()])])
    connection.unbind_s()


@pytest.mark.timeout(60)
def test_who_asks_nothing_is_hung_up_on_and_the_watch_and_our_clients_are_not_harmed(slapd: Slapd) -> None:
    idle_after(slapd, SECONDS)
    server, events, stop = slapd.directory("server"), list[Any](), threading.Event()
    server.add_node(NodeRecord(name="n1"))
    watcher = threading.Thread(target=Watcher(server.settings, SUFFIX).run, args=(events.append, stop), daemon=True)
    watcher.start()
    with socket.create_connection(("127.0.0.1", slapd.port)) as stranger:
        stranger.settimeout(10 * SECONDS)
        assert stranger.recv(1) == b"", "it was not hung up on"
    time.sleep(2 * SECONDS)
    before = len(events)
    server.add_node(NodeRecord(name="n2"))
    deadline = time.monotonic() + 5
    while len(events) == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(events) > before and not any(isinstance(each, port.Down) for each in events), events
    stop.set()


def test_a_directory_of_the_release_before_gets_it(slapd: Slapd) -> None:
    idle_after(slapd, 0)
    connection = client.connect(client.Settings(slapd.ldapi))
    assert any("idle" in each for each in migrate.migrate(connection, SUFFIX))
    assert migrate.migrate(connection, SUFFIX) == []
    [(_, found)] = connection.search_s("cn=config", ldap.SCOPE_BASE, attrlist=["olcIdleTimeout"])
    assert found["olcIdleTimeout"] == [str(IDLE_SECONDS).encode()]
    connection.unbind_s()
