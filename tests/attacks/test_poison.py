"""A message of which the monitor dies again and again is set aside; a part that lives and hears nothing is told."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.broker import Broker, passwords_for, write_cloud
from tests.cloud import Cloud as Whole
from tests.cloud import cloud as whole
from tests.integration.test_monitor import Cloud, guest, until
from tests.slapd import Slapd, slapd
from vmcloud.config import Config
from vmcloud.dispatch.app import RestoreOwn, consumer_app
from vmcloud.dispatch.judge import DELIVERIES, DELIVERIES_MAX, item, judged
from vmcloud.dispatch.routes import REPORT_TASK
from vmcloud.dispatch.transport import DEAD_MAX, Held
from vmcloud.domain.denials import parse
from vmcloud.domain.vocabulary import Observed
from vmcloud.local import parts, report

pytestmark = pytest.mark.integration
__all__ = ["slapd"]


@pytest.fixture
def cloud(tmp_path: Path, slapd: Slapd) -> Iterator[Cloud]:
    made = Cloud(tmp_path, slapd)
    yield made
    made.close()


def monitors_broker(cloud: Cloud) -> redis.Redis:
    return redis.Redis(port=cloud.port, username="supervisor", password="broker-supervisor")


@pytest.mark.timeout(60)
def test_what_three_monitors_died_of_is_set_aside_and_the_fourth_goes_on(cloud: Cloud) -> None:
    record = cloud.a_ve()
    poison = item(REPORT_TASK, {"v": 1, "type": "sighting", "poison": True})
    node = redis.Redis(port=cloud.port, username="node-n1", password="broker-node-n1")
    node.lpush("monitor.n1", poison)
    environment = {**os.environ, "VMCLOUD_DATA": str(cloud.data), "VMCLOUD_FAULTS": str(cloud.faults)}
    for _ in range(DELIVERIES_MAX):
        (cloud.faults / "monitor.received").touch()
        monitor = cloud._run([sys.executable, "-m", "monitor"], env=environment)
        assert monitor.wait(10) == -signal.SIGKILL
    cloud.monitor()
    cloud.say(1, guest(record))
    until(lambda: cloud.state(record) is Observed.RUNNING)
    (kept,) = map(json.loads, monitors_broker(cloud).lrange("dead.monitor", 0, -1))
    assert kept["list"] == "monitor.n1"
    said = [line for log in sorted(cloud.data.glob("monitor-*.log")) for line in log.read_text().splitlines()]
    (denial,) = [found for found in map(parse, said) if found is not None and "kept in dead.monitor" in found.why]
    assert (denial.door, denial.who) == ("broker", "n1")


def test_a_count_of_the_senders_makes_no_message_immortal() -> None:
    """The count travels with the message: what a node writes there is no number that it could begin below."""
    for forged in (-1000, True, "0", 10**9, None, 2.5):
        made = json.loads(item(REPORT_TASK, 1))
        made["headers"][DELIVERIES] = forged
        assert judged(json.dumps(made).encode(), "monitor.a")["headers"][DELIVERIES] == 0


def test_the_list_of_what_was_set_aside_is_bounded(place: Path) -> None:
    broker = Broker(place / "broker", passwords_for(["a"]))
    broker.start()
    try:
        write_cloud(place / "data", broker.url, passwords_for(["a"]), {"name": "a"})
        client = redis.Redis(port=broker.port, username="monitor", password="pw-monitor")
        for number in range(DEAD_MAX + 20):
            raw = json.loads(item(REPORT_TASK, "x" * 10_000))
            raw["headers"][DELIVERIES] = DELIVERIES_MAX - 1
            client.hset("unacked.monitor", str(number), json.dumps([raw, "", "monitor.a"]))
        app = consumer_app(Config.load(place / "data"), "monitor", ["monitor.a"])
        Held._all.clear()
        RestoreOwn.start(None, type("Consumer", (), {"app": app}))
        supervisor = redis.Redis(port=broker.port, username="supervisor", password="pw-supervisor")
        assert supervisor.llen("dead.monitor") == DEAD_MAX
        assert client.hkeys("unacked.monitor") == [] and not client.brpop("monitor.a", 0.1)
    finally:
        Held._all.clear()
        broker.kill()


@pytest.mark.parametrize("part", ["monitor", "server"])
def test_status_and_doctor_tell_a_part_that_lives_and_does_not_answer(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "SILENT", 5.0)
    with whole(simulate=1) as made:
        config = Config.load(made.data)
        assert report.collect(config).healthy
        with made.frozen(part):
            made.until(lambda: row(made, part).state == "silent", 20, "the status to tell it")
            assert not report.collect(config).healthy and "does not answer" in row(made, part).why
            os.utime(parts.alive_file(made.data, part), (0, 0))
            assert f"{part} is silent" in made.run("doctor", check=False).stdout
            assert not json.loads(made.run("status", "-o", "json", check=False).stdout)["healthy"]
        made.until(lambda: report.collect(config).healthy, 20, "it to answer again")


def row(made: Whole, part: str) -> report.Row:
    return next(each for each in report.collect(Config.load(made.data)).rows if each.name == part)
