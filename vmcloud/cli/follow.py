"""Following jobs until they end: one updating line on a terminal, plain lines elsewhere, and the ways it can end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from vmcloud.domain.arrays import parts_sentence
from vmcloud.domain.errors import Problem

from .errors import FAILED, INTERRUPTED, OK, CliError, Unreachable, lines, printable
from .rest import Client, segment

Job = dict[str, Any]
POLL = 20.0
"""Seconds one request waits for a change."""
PATIENCE = 60.0
"""Seconds without any answer after which following ends; the job goes on without us."""
COMPLETE = "C"


def target(job: Job) -> str:
    """What a job is about: its VE, image or node."""
    return str(job["ve_name"] or job["args"].get("image") or job["node"] or "")


def head(job: Job) -> str:
    """A job in a few words: ``job 12 create hello``."""
    return printable(f"job {job['ref']} {job['verb']} {target(job)}").rstrip()


def sentence(job: Job) -> str:
    """Where a job is now: ``job 12 create hello: running, unpack 40 %``."""
    if job["state"] == COMPLETE:
        return f"{head(job)}: {job['outcome']}{_took(job)}"
    words = [job["state_name"], *([parts_sentence(job["array"])] if job["array"] else [])]
    step = _current(job)
    if step and step["state"] != "planned":
        phase = " ".join([step["phase"] or step["verb"], *([f"{step['percent']} %"] if step["percent"] is not None else [])])
        sent = f"sent to {step['node']}" if step["node"] else f"{step['verb']} in the directory"
        words.append(phase if step["state"] in ("accepted", "running") else sent)
    if job["cancel_requested"]:
        words.append("cancel asked for")
    # The reason of a running job is what its step says; once is enough.
    if job["reason"] and not (step and len(words) > 1 and job["reason"].startswith(f"{step['verb']} on {step['node']}:")):
        words.append(job["reason"])
    return printable(f"{head(job)}: {', '.join(words)}")


def step_sentence(step: Job) -> str:
    """Where one step is: ``step 1 create on node-1: running, unpack 40 %``."""
    percent = f" {step['percent']} %" if step["percent"] is not None and step["state"] != "done" else ""
    state = step["outcome"] or step["state"] if step["state"] == "done" else step["state"]
    phase = f", {step['phase']}{percent}" if step["phase"] and step["state"] != "done" else percent
    return printable(f"  step {step['number']} {step['verb']} on {step['node']}: {state}{phase}")


def failure(job: Job) -> Problem | None:
    """Why a complete job is no success, or None if it is one."""
    if job["outcome"] == "ok":
        return None
    error = Problem.from_json(job["error"] or {})
    why = ": ".join(text for text in (error.what, error.why) if text) or job["reason"]
    todo = error.todo or f"Look at `vmcloud job logs {_refs([job])}`."
    return Problem(code=error.code or "job", what=f"{head(job)}: {job['outcome']}", where=error.where, why=why, todo=todo)


def _current(job: Job) -> Job | None:
    """The step that is being worked on: the first one not done."""
    return next((step for step in job.get("steps", ()) if step["state"] != "done"), None)


def _took(job: Job) -> str:
    from datetime import datetime

    if not job["ended"]:
        return ""
    seconds = (datetime.fromisoformat(job["ended"]) - datetime.fromisoformat(job["created"])).total_seconds()
    return f" in {seconds:.1f} s"


class Line:
    """Progress on stderr: on a terminal one line that is written over, else a line per change."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self._shown = ""
        self._said = set[str]()

    def show(self, text: str) -> None:
        """Say where things are."""
        if text == self._shown or text in self._said:
            return
        self._shown = text
        if self.live:
            import shutil

            click.echo(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}", err=True, nl=False)
        else:
            self._said.add(text)
            click.echo(text, err=True)

    def keep(self, text: str) -> None:
        """Say something that stays."""
        self.clear()
        if text not in self._said:
            self._said.add(text)
            click.echo(text, err=True)
        self._shown = ""

    def clear(self) -> None:
        """Wipe what would be written over."""
        if self.live and self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)


def changes(client: Client, ref: str, *, deadline: float | None, lost: Callable[[str], None]) -> Iterator[Job]:
    """A job's states, as they come, until it is complete or the deadline (monotonic) is past; the last one is the latest.

    While nobody answers (the web part restarts, say), ``lost`` is told and it is tried again for :data:`PATIENCE` seconds.
    """
    version, silent_since = 0, 0.0
    while True:
        left = POLL if deadline is None else max(0.0, min(POLL, deadline - time.monotonic()))
        try:
            query = {"wait": f"{left:.2f}", "version": str(version)}
            job: Job = client.get(f"/jobs{segment(ref)}", query if version else None, timeout=left + 15)
        except Unreachable as error:
            now = time.monotonic()
            silent_since = silent_since or now
            if now - silent_since > PATIENCE or (deadline is not None and now > deadline):
                raise
            lost(error.problem.what)
            time.sleep(0.5)
            continue
        silent_since, changed = 0.0, job["version"] > version
        version = job["version"]
        if changed:
            yield job
        if job["state"] == COMPLETE or (deadline is not None and time.monotonic() >= deadline):
            return


def wait(client: Client, jobs: list[Job], timeout: float | None, *, line: Line | None = None) -> tuple[int, list[Job]]:
    """Wait until all ``jobs`` are complete, showing progress. The exit code, and the jobs as they are then.

    Ctrl-C ends the waiting, not the jobs; that is said, and how to end them.
    """
    line = line or Line()
    deadline = None if timeout is None else time.monotonic() + timeout
    code, latest = OK, {job["id"]: job for job in jobs}
    try:
        for job in jobs:
            for now in changes(client, job["ref"], deadline=deadline, lost=lambda text: line.show(f"{text}; trying again")):
                latest[job["id"]] = now
                if now["state"] != COMPLETE:
                    line.show(sentence(now))
            code = _ended(latest[job["id"]], timeout, line) or code
    except KeyboardInterrupt:
        line.keep(_going_on([each for each in latest.values() if each["state"] != COMPLETE]))
        return INTERRUPTED, list(latest.values())
    except CliError as error:
        line.clear()
        numbers = _refs(latest.values())
        problem = error.problem
        todo = f"{problem.todo} The jobs go on; then: `vmcloud job wait {numbers}`."
        raise type(error)(Problem(problem.code, problem.what, problem.where, problem.why, todo)) from error
    return code, list(latest.values())


def _ended(job: Job, timeout: float | None, line: Line) -> int:
    """Say how waiting for one job ended; the exit code."""
    if job["state"] != COMPLETE:
        what = f"{head(job)}: not complete after {timeout:g} s" if timeout is not None else head(job)
        problem = Problem("timeout", what, "", job["reason"], f"It goes on: `vmcloud job wait {_refs([job])}`.")
    else:
        found = failure(job)
        if found is None:
            line.keep(sentence(job))
            return OK
        problem = found
    line.clear()
    for text in lines(problem):
        click.echo(text, err=True)
    return FAILED


def _refs(jobs: Iterable[Job]) -> str:
    """What to type for these jobs in a shell."""
    import shlex

    return " ".join(shlex.quote(job["ref"]) for job in jobs)


def _going_on(jobs: list[Job]) -> str:
    numbers = _refs(jobs)
    many = len(jobs) > 1
    return (
        f"vmcloud: job{'s' if many else ''} {numbers} go{'' if many else 'es'} on\n"
        f"  do: follow: `vmcloud job wait {numbers}`; end: `vmcloud job cancel {numbers}`"
    )
