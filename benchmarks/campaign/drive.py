"""One campaign from beginning to end: acts by the clock, then all is mended, then quiet, then the checker looks."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from benchmarks.checker import look, rules
from benchmarks.checker.facts import Request

from .client import Answer, Client
from .hands import Faults, People
from .plan import Act
from .world import World

SETTLE = 120.0
"""Seconds after the last fault within which every job has ended and every part is ready."""
WATCHED = 5.0
"""Seconds between two lines of progress."""
Tell = Callable[[str], None]


@dataclass
class Outcome:
    """What a campaign found. Times in seconds."""

    seed: int
    seconds: float
    asked: int = 0
    taken: int = 0
    refused: int = 0
    unknown: int = 0
    jobs: int = 0
    by_outcome: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    unavailable: float = 0.0
    leaderless: float = 0.0
    settled: float = 0.0
    violations: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(self.__dict__)

    def table(self) -> list[str]:
        """Lines for people."""
        outcomes = ", ".join(f"{count} {name}" for name, count in sorted(self.by_outcome.items()))
        faults = ", ".join(f"{count} {name}" for name, count in sorted(self.faults.items()))
        rows = [
            ("seed", str(self.seed)),
            ("seconds of faults", f"{self.seconds:.0f}"),
            ("requests", f"{self.asked}: {self.taken} taken, {self.refused} refused, {self.unknown} with an unknown answer"),
            ("jobs", f"{self.jobs}: {outcomes}"),
            ("faults", f"{sum(self.faults.values())}: {faults}"),
            ("longest time without an answer of the API", f"{self.unavailable:.1f} s"),
            ("longest time without a leader", f"{self.leaderless:.1f} s"),
            ("from the last fault until all jobs had ended", f"{self.settled:.1f} s"),
            ("violations", str(len(self.violations))),
        ]
        return [f"  {name:46}{value}" for name, value in rows] + [f"  VIOLATION {each}" for each in self.violations]


class Probe:
    """Somebody who asks ten times a second for the newest job: how long nobody was answered."""

    def __init__(self, client: Client) -> None:
        self.longest = 0.0
        self._client, self._stop = client, threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(0.1):
            began = time.monotonic()
            if self._client.send("GET", "/jobs?limit=1", patience=1.0).status == 200:
                last = time.monotonic()
            self.longest = max(self.longest, (began if last < began else last) - last)

    def stop(self) -> float:
        """The longest time, in seconds."""
        self._stop.set()
        self._thread.join(3)
        return self.longest


class Log:
    """What was done when and what came of it: one JSON object a line, which ``--replay`` reads."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write, self._lock, self._began = write, threading.Lock(), time.monotonic()

    def act(self, act: Act) -> None:
        """An act, as it begins."""
        self._line(json.loads(act.line()))

    def note(self, **said: Any) -> None:
        """Anything else."""
        self._line({"note": said, "at": round(time.monotonic() - self._began, 3)})

    def _line(self, value: dict[str, Any]) -> None:
        with self._lock:
            self._write(json.dumps(value) + "\n")


def hold(world: World, acts: Sequence[Act], seed: int, *, quiet: float, tell: Tell, log: Log) -> Outcome:
    """The campaign on a cloud that is up."""
    people, faults, client = People(world, seed), Faults(world), world.client()
    outcome = Outcome(seed, acts[-1].at if acts else 0.0)
    _play(world, acts, people, faults, outcome, tell, log)
    tell("all is mended; waiting for the jobs to end")
    mended = time.monotonic()
    _settle(world, client, outcome)
    outcome.settled = time.monotonic() - mended
    tell(f"settled after {outcome.settled:.1f} s; {quiet:.0f} s of quiet")
    before = newest(client)
    time.sleep(quiet)
    if (after := newest(client)) != before:
        outcome.violations.append(f"nothing was asked for, and job {after} was made in the quiet")
    _judge(world, people, outcome, log)
    log.note(outcome=outcome.to_json())
    return outcome


def _play(world: World, acts: Sequence[Act], people: People, faults: Faults, outcome: Outcome, tell: Tell, log: Log) -> None:
    """All acts at their times; when this returns all is mended and everybody has an answer, or has given up."""
    probe, leader = Probe(world.client()), look.LeaderWatch(world.sql)
    began, told = time.monotonic(), 0.0
    for act in acts:
        while (left := began + act.at - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            leader.look()
        log.act(act)
        if act.what == "request":
            people.do(act)
        else:
            faults.do(act)
        if act.at - told >= WATCHED:
            told = act.at
            taken, hit = sum(each.answer == "taken" for each in people.asked), sum(faults.done.values())
            tell(f"{act.at:5.0f} of {outcome.seconds:.0f} s: {len(people.asked)} asked, {taken} taken, {hit} faults")
    faults.end()
    people.finish()
    outcome.unavailable, outcome.leaderless = probe.stop(), leader.longest
    outcome.asked, outcome.faults = len(people.asked), dict(faults.done)
    for name in ("taken", "refused", "unknown"):
        setattr(outcome, name, sum(each.answer == name for each in people.asked))


def _judge(world: World, people: People, outcome: Outcome, log: Log) -> None:
    """Have the checker look; what did not end well, and what each who asked was told, goes to the log."""
    requests = [Request(each.key, each.verb, each.target, each.answer, each.job) for each in people.asked]
    facts = look.look(places(world), requests)
    for each in people.asked:
        log.note(**each.to_json())
    for job in facts.jobs:
        if job.outcome != "ok":
            about = {"number": job.id, "verb": job.verb, "name": job.name, "ve": job.ve, "origin": job.origin}
            log.note(ended=job.outcome, error=job.error, **about)
    outcome.jobs = len(facts.jobs)
    outcome.by_outcome = dict(Counter(" ".join(filter(None, (job.outcome, job.error))) for job in facts.jobs))
    outcome.violations += rules.violations(facts)


def places(world: World) -> look.Places:
    """Where the checker finds what it looks at."""
    return look.Places(
        sql=world.sql,
        ldapi=str(world.ldapi),
        broker=world.broker_url,
        nodes={node: str(home) for node, home in world.homes().items()},
        data=tuple(str(world.data(machine)) for machine in world.machines),
        supervisors=tuple(world.supervisors()),
    )


def newest(client: Client) -> str:
    """The number of the last job."""
    items = client.ask("GET", "/jobs?expand=true&limit=1")["items"]
    return str(items[0]["id"]) if items else ""


def _settle(world: World, client: Client, outcome: Outcome) -> None:
    """Release what is held, and wait until nothing is open and every part is ready."""
    until = time.monotonic() + SETTLE
    still = 0
    while still < 4:
        still = still + 1 if world.all_ready() and not _open(client) else 0
        if time.monotonic() > until:
            left = [f"{each['id']} {each['verb']} {each['state']}: {each['reason']}" for each in _open(client)]
            outcome.violations.append(f"not settled within {SETTLE:.0f} s: {left or 'a part is not ready'}")
            return
        time.sleep(0.5)


def _open(client: Client) -> list[dict[str, Any]]:
    """Jobs that have not ended; those that are held are released on the way."""
    answer: Answer = client.send("GET", "/jobs?active=true&expand=true&limit=1000")
    if answer.status != 200:
        return [{"id": 0, "verb": "", "state": "", "reason": f"the API answers {answer}"}]
    found: list[dict[str, Any]] = answer.body["items"]
    for job in found:
        if job["state"] == "H":
            client.send("POST", f"/jobs/{quote(str(job['id']))}/release")
    return found
