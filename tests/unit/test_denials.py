"""A denial is one line that anybody can find again, whoever said it, and is handed on to who keeps the audit."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from vmcloud.domain import denials
from vmcloud.domain.denials import LOGGER, SINGLY, TEXT_MAX, Denial, Gate, denied, parse
from vmcloud.local import combined

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denials, "_gate", Gate())


def test_a_flood_is_told_in_part_and_counted_whole_and_others_are_heard(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    told = [gate.told("broker", "a", 1, 5.5) for _ in range(SINGLY + 100)]
    assert sum(tell for tell, _ in told) == SINGLY
    assert gate.told("broker", "b", 1, 5.5) == (True, 0)
    assert gate.told("broker", "a", 1, 6.1) == (True, 100) and gate.told("broker", "a", 1, 6.2) == (True, 0)
    with caplog.at_level(logging.WARNING, LOGGER):
        for number in range(1000):
            denied("broker", "a", str(number), "flood")
    assert len(caplog.records) <= 3 * (SINGLY + 1)


def test_what_is_told_is_read_again_from_the_line_of_any_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, LOGGER):
        said = denied("broker", "node-a", 'LPUSH "node.b"\n\x1b[2J', "no right: key", source="192.0.2.1:5", count=3)
    (record,) = caplog.records
    assert record.__dict__["denial"] == said
    assert "\n" not in record.getMessage() and "\x1b" not in record.getMessage(), "what a stranger wrote stays in its line"
    assert parse(f"2026-01-01 00:00:00 monitor WARNING {LOGGER}: {record.getMessage()}") == said


def test_what_the_denied_one_wrote_is_cut() -> None:
    assert len(denied("broker", "x", "y" * 10_000, "z").what) == TEXT_MAX


@pytest.mark.parametrize("line", ["", "denied", "denied {", 'denied {"door": 1', 'denied {"no": "such"}', "denied []"])
def test_lines_of_other_things_are_none(line: str) -> None:
    assert parse(line) is None


def test_denials_of_all_parts_come_to_one_file_that_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combined, "DENIALS_MAX", 2000)
    path = tmp_path / "denials"
    path.touch()
    log = combined.CombinedLog(tmp_path / "log", denials=path)
    log.write("monitor", "2026 monitor WARNING vmcloud.denied: " + Denial("broker", "a", "x", "y").line())
    log.write("web", "was denied {nothing}")
    (found,) = map(json.loads, path.read_text().splitlines())
    assert (found["part"], found["door"], found["who"], found["count"]) == ("monitor", "broker", "a", 1) and found["at"] > 0
    for _ in range(100):
        log.write("broker", Denial("broker", "a", "x", "y").line())
    assert 0 < path.stat().st_size < 2500
    log.close()
