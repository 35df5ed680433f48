"""What to do about a refusal is data, and each door says it in its own words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest

import vmcloud
from tests.web import Web, web
from vmcloud.cli.main import cli
from vmcloud.domain.errors import Conflict, Problem
from vmcloud.domain.hints import Hint

pytestmark = pytest.mark.unit
__all__ = ("web",)
RENEW = Hint("Renew it: {}.", "ve.lease", {"ve": "web-1", "for": "+8h"})
ROOT = Path(vmcloud.__file__).parent
SOURCES = [*sorted((ROOT / "domain" / "verbs").rglob("*.py")), *sorted((ROOT / "fleet" / "services").glob("*.py"))]


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (RENEW, "Renew it: `vmcloud ve lease web-1 +8h`."),
        (Hint("{} shows all.", "ve.list", {"orphans": True}), "`vmcloud ve list --orphans` shows all."),
        (Hint("Let the whole array run: {}.", "job.run", {"job": "12[]"}), "Let the whole array run: `vmcloud job run '12[]'`."),
        (Hint("{}", "queue.set", {"queue": "a b", "disabled": True}), "`vmcloud queue set 'a b' --disabled`"),
        (Hint("Log in: {}.", "login"), "Log in: `vmcloud login`."),
    ],
)
def test_the_command_line_says_it_as_a_command(hint: Hint, words: str) -> None:
    assert Conflict("no", todo=hint).problem.todo == hint.command() == words


def test_a_problem_keeps_it_on_its_way_as_json() -> None:
    problem = Conflict("over", todo=RENEW).problem
    assert Problem.from_json(json.loads(json.dumps(problem.to_json()))) == problem
    assert {"action", "args", "hint"}.isdisjoint(Conflict("over", todo="Wait.").problem.to_json())


@pytest.mark.parametrize("broken", [{"action": 1}, {"args": []}, {"hint": None}, {"action": ""}])
def test_half_a_hint_is_none_and_the_words_stay(broken: dict[str, Any]) -> None:
    found = Problem.from_json({**Conflict("over", todo=RENEW).problem.to_json(), **broken})
    assert found.hint is None and found.todo == RENEW.command()


def test_rest_has_the_action_and_its_arguments(web: Web) -> None:
    spec = {"kind": "simulated", "image": "busybox", "lease_end": 1.0}
    web.ve("web-1", kind="simulated", observed_state="stopped", spec=spec)
    body = web.call("POST", "/ves/web-1/start").json()
    assert (body["action"], body["args"], body["hint"]) == ("ve.lease", {"ve": "web-1", "for": "+8h"}, "Renew it: {}.")
    assert body["todo"] == RENEW.command()


def test_pages_say_it_as_what_pages_have(web: Web) -> None:
    from vmcloud.fleet.admin.base import sentence

    def said(hint: Hint) -> str:
        return sentence(Conflict("no", todo=hint).problem)

    assert said(Hint("Start it: {}.", "ve.start", {"ve": "web-1"})) == "no. Start it: “Start” on the page of web-1."
    assert said(Hint("{} shows all.", "node.list")) == "no. The list of nodes shows all."
    assert said(Hint("Log in: {}.", "login")) == "no. Log in: `vmcloud login`."
    assert sentence(Problem("x", "no", todo="Wait.")) == "no. Wait."


@pytest.mark.parametrize("source", SOURCES, ids=lambda each: str(each.relative_to(ROOT)))
def test_every_hint_is_a_command_that_there_is(source: Path) -> None:
    for action in re.findall(r'Hint\(\s*(?:text|"[^"]*"), "([a-z.-]+)"', source.read_text()):
        command: Any = cli
        for word in action.split("."):
            command = command.get_command(click.Context(cli), word)
            assert command is not None, action


@pytest.mark.parametrize("source", SOURCES, ids=lambda each: str(each.relative_to(ROOT)))
def test_no_refusal_has_a_command_in_its_words(source: Path) -> None:
    """Those that no door could say otherwise stay: a line for a shell."""
    for line in source.read_text().splitlines():
        if "todo" in line and "`vmcloud" in line:
            assert source.name == "why.py" or "eval" in line, line
