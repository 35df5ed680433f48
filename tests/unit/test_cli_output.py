"""Tables, JSON, YAML, names; sizes and times as people type and read them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from operator import itemgetter

import click
import pytest
import yaml

from vmcloud.cli.common import Mebibytes, Seconds, keys
from vmcloud.cli.errors import lines
from vmcloud.cli.output import Column, Shape, age, cell, fields, mebibytes, show_list, show_objects, size, table
from vmcloud.domain.errors import Problem

pytestmark = pytest.mark.unit

COLUMNS = (
    Column("NAME", lambda item: item["name"]),
    Column("STATUS", lambda item: item["status"], coloured=True),
    Column("REASON", lambda item: item["reason"], flexible=True),
    Column("ID", lambda item: item["id"], wide=True),
)
SHAPE = Shape(COLUMNS)
ITEMS = [
    {"name": "web-1", "status": "running", "reason": "", "id": "x" * 36},
    {"name": "web-2", "status": "error", "reason": "no such\nbridge \x1b[31m here", "id": "y" * 36},
]


def test_a_table_aligns_and_shows_nothing_that_drives_a_terminal() -> None:
    assert table(ITEMS, COLUMNS[:3], None, colour=False) == [
        "NAME   STATUS   REASON",
        "web-1  running  -",
        "web-2  error    no such bridge  [31m here",
    ]


def test_a_table_is_cut_to_the_terminal() -> None:
    for width in (30, 24, 16):
        assert all(len(line) <= width for line in table(ITEMS, COLUMNS[:3], width, colour=False)), width
    assert table(ITEMS, COLUMNS[:3], 26, colour=False)[2].endswith("…")


def test_colour_is_by_value_and_does_not_change_the_width() -> None:
    line = table(ITEMS, COLUMNS[:3], None, colour=True)[1]
    assert "\x1b[32mrunning" in line and click.unstyle(line) == "web-1  running  -"


def test_json_and_yaml_of_a_list_are_arrays_with_the_api_fields(capsys: pytest.CaptureFixture[str]) -> None:
    show_list(ITEMS, SHAPE, "json")
    assert json.loads(capsys.readouterr().out) == ITEMS
    show_list(ITEMS, SHAPE, "yaml")
    assert yaml.safe_load(capsys.readouterr().out) == ITEMS
    show_list([], SHAPE, "json")
    assert json.loads(capsys.readouterr().out) == []


def test_name_prints_names_only_and_an_empty_table_prints_nothing_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    show_list(ITEMS, SHAPE, "name")
    assert capsys.readouterr().out == "web-1\nweb-2\n"
    show_list([], SHAPE, "table")
    assert capsys.readouterr() == ("", "nothing to show\n")


def test_wide_shows_every_column(capsys: pytest.CaptureFixture[str]) -> None:
    show_list(ITEMS, SHAPE, "wide")
    assert "x" * 36 in capsys.readouterr().out


def test_a_narrow_terminal_loses_what_says_nothing_then_what_can_be_spared_then_the_right() -> None:
    columns = [
        Column("NAME", itemgetter("name")),
        Column("STATUS", itemgetter("status")),
        Column("KIND", itemgetter("kind"), spare=True),
        Column("REASON", itemgetter("reason"), flexible=True, least=6),
        Column("SINCE", itemgetter("since")),
    ]
    row = {"name": "web-1", "status": "running", "kind": "lxc", "reason": "because it is so", "since": None}

    def shown(width: int) -> str:
        return table([row], columns, width, colour=False)[1]

    assert shown(80) == "web-1  running  lxc   because it is so  -"
    assert shown(38) == "web-1  running  lxc   because it is so"
    assert shown(25) == "web-1  running  because …"
    assert shown(14) == shown(5) == "web-1  running"


def test_one_object_is_an_object_and_several_are_an_array(capsys: pytest.CaptureFixture[str]) -> None:
    show_objects(ITEMS[:1], SHAPE, "json", single=True)
    assert json.loads(capsys.readouterr().out) == ITEMS[0]
    show_objects(ITEMS[:1], SHAPE, "json", single=False)
    assert json.loads(capsys.readouterr().out) == ITEMS[:1]


def test_fields_show_lists_of_objects_as_tables() -> None:
    assert fields({"id": 3, "parts": [{"number": 1, "verb": "create"}], "error": {"what": "no"}}) == [
        "id:     3",
        "parts:",
        "  NUMBER  VERB",
        "  1       create",
        "error:",
        "  what:  no",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        ([], "-"),
        ({}, "-"),
        (True, "yes"),
        (False, "no"),
        (["a", "b"], "a,b"),
        (0, "0"),
        ({"a": 1}, "a=1"),
    ],
)
def test_cells(value: object, text: str) -> None:
    assert cell(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (7200, "2h"), (86400, "24h"), (172800, "2d")]
)
def test_ages(seconds: int, text: str) -> None:
    now = datetime(2026, 1, 10, tzinfo=UTC)
    then = datetime.fromtimestamp(now.timestamp() - seconds, UTC).isoformat()
    assert age(then, now) == text


def test_sizes_for_people() -> None:
    sizes = [mebibytes(value) for value in (None, 0, 64, 1024, 1536, 1100, 2 << 20, 3 << 19)]
    assert sizes == ["-", "-", "64M", "1G", "1.5G", "1100M", "2T", "1.5T"]
    assert [size(value) for value in (0, 1023, 1536, 5 << 20, 3 << 30)] == ["0 B", "1023 B", "1.5 KiB", "5.0 MiB", "3.0 GiB"]


@pytest.mark.parametrize(
    ("text", "value"), [("64", 64), ("64M", 64), ("64MiB", 64), ("1G", 1024), ("1.5g", 1536), ("2T", 2 << 20), (" 8 ", 8)]
)
def test_sizes_as_typed(text: str, value: int) -> None:
    assert Mebibytes().convert(text, None, None) == value


@pytest.mark.parametrize("text", ["", "x", "-1", "1.3M", "1K", "1e99", "nan", "inf", "G"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is no size|is too large"):
        Mebibytes().convert(text, None, None)


def test_times_as_typed() -> None:
    assert [Seconds().convert(text, None, None) for text in ("30", "30s", "5m", "1h", "0.5")] == [30, 30, 300, 3600, 0.5]
    for text in ("", "soon", "-1", "nan", "m"):
        with pytest.raises(click.BadParameter, match="is no time"):
            Seconds().convert(text, None, None)


def test_a_problem_is_one_to_four_lines() -> None:
    assert lines(Problem("x", "no")) == ["vmcloud: no"]
    assert lines(Problem("x", "no\nway", "name", "why so", "Do."), "web-1") == [
        "vmcloud: web-1: no way",
        "  where: name",
        "  why: why so",
        "  do: Do.",
    ]


def test_keys_are_fresh_or_made_from_the_one_given() -> None:
    fresh = keys(None, ["a", "b"])
    assert len(set(fresh.values())) == 2
    assert keys("k", ["a"]) == {"a": "k"}
    assert keys("k", ["a", "b"]) == {"a": "k:a", "b": "k:b"}


def test_steps_of_a_job_fit_a_page() -> None:
    moment = "2026-01-01T00:00:00.000+00:00"
    step = {"number": 1, "verb": "uncordon", "node": "n" * 40, "lane": "ve:" + "f" * 36, "attempt": 1, "state": "accepted"}
    step |= {"phase": "unpack " * 5, "percent": 100, "outcome": "cancelled", "sent": moment, "times_sent": 12}
    found = fields({"id": 1, "steps": [{**step, "accepted": moment, "ended": None}]})
    assert max(map(len, found)) <= 100 and "2026" not in "".join(found) and "ENDED" not in found[-2]


def test_long_quotations_are_cut() -> None:
    assert lines(Problem("code", f"'{'x' * 5000}' is too long")) == [f"vmcloud: '{'x' * 59}…' is too long"]
