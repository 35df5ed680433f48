"""``vmcloud job``: the queue."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click

from vmcloud.domain.terms import Hold
from vmcloud.domain.vocabulary import Verb

from . import follow
from .common import JOBS, JobNumber, Name, Seconds, check_node, client, complain, each, finish, names, once, output_option, say
from .errors import FAILED, INTERRUPTED, OK, CliError, Unreachable, printable
from .output import Shape, show_list, show_objects
from .rest import Client
from .terms import given, terms_options

job_ids = click.argument("jobs", nargs=-1, required=True, type=JobNumber(), metavar="ID...", shell_complete=names("/jobs", "id"))
timeout_option = click.option("--timeout", type=Seconds(), metavar="TIME", help="At most this long (30, 5m).")
EVENTS_KEPT = 10_000


@click.group()
def group() -> None:
    """Jobs: every action is one."""


@group.command("list")
@click.option("--active", is_flag=True, help="Only those that are not complete.")
@click.option("--mine", is_flag=True, help="Only your own.")
@click.option("--ve", type=Name(), metavar="NAME", help="Only this VE's.", shell_complete=names("/ves"))
@click.option("--node", type=Name(), metavar="NAME", help="Only this node's.", shell_complete=names("/nodes"))
@click.option("--verb", type=click.Choice([verb.value for verb in Verb]), metavar="VERB", help="Only this verb, such as create.")
@click.option("--queue", type=Name(), metavar="NAME", help="Only this queue's.", shell_complete=names("/queues"))
@click.option("--state", type=click.Choice(list("QHWRETSC")), help="Only this state (Torque's letters).")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many, the newest.")
@output_option()
def list_(form: str, limit: int, active: bool, mine: bool, **filters: str | None) -> None:
    """List jobs, newest first. S is the state: Q queued, H held, W waits, R running, E exiting, C complete.

    \b
    Examples:
      vmcloud job list
      vmcloud job list --active
      vmcloud job list --ve web-1 -o json
    """
    query = {name: value for name, value in filters.items() if value}
    query |= {name: "true" for name, on in (("active", active), ("mine", mine)) if on}
    api = client()
    found = list(api.every("/jobs", query, limit=limit))
    if not found:
        check_node(api, filters["node"])
        if filters["ve"]:
            say(f"vmcloud: note: no such job of a VE {filters['ve']!r} is known")
    show_list(found, JOBS, form)


@group.command()
@job_ids
@output_option()
def show(jobs: tuple[int, ...], form: str) -> None:
    """Show jobs with their steps.

    \b
    Examples:
      vmcloud job show 12
      vmcloud job show 12 -o json
    """
    each([str(job) for job in jobs], lambda api, job: api.get(f"/jobs/{job}"), JOBS, form)


@group.command()
@job_ids
@click.option("-f", "--force", is_flag=True, help="End what has begun now, without its undo; for administrators.")
@click.option("-w", "--wait", "wait", is_flag=True, help="Until they are complete. A cancelled job is a success here.")
@timeout_option
@output_option("name")
def cancel(jobs: tuple[int, ...], force: bool, wait: bool, timeout: float | None, form: str) -> None:
    """Cancel jobs: what has not begun never will, what has is stopped and undone. By force, the job says what may be left where.

    \b
    Examples:
      vmcloud job cancel 12
      vmcloud job cancel 12 --force --wait
      vmcloud job list --active -o name | xargs vmcloud job cancel
    """
    api, code, asked = client(), OK, []
    for number in once(jobs):
        try:
            job = api.act("POST", f"/jobs/{number}/cancel", {"force": True} if force else None, key="cancel")
        except Unreachable:
            raise
        except CliError as error:
            complain(error, str(number))
            code = FAILED
            continue
        asked.append(job)
        if form == "name":
            click.echo(job["id"])
        say(follow.sentence(job) if job["state"] != follow.COMPLETE else f"{follow.head(job)} is complete already")
    if wait or timeout is not None:
        asked = _until_complete(api, asked, timeout)
    if form != "name":
        show_objects(asked, JOBS, form, single=len(jobs) == 1)
    finish(code)


def _until_complete(api: Client, jobs: list[follow.Job], timeout: float | None) -> list[follow.Job]:
    """Wait without judging how the jobs ended."""
    line, latest = follow.Line(), {job["id"]: job for job in jobs}
    deadline = None if timeout is None else time.monotonic() + timeout
    for job in jobs:
        for now in follow.changes(api, job["id"], deadline=deadline, lost=line.show):
            latest[job["id"]] = now
            line.show(follow.sentence(now))
        line.keep(follow.sentence(latest[job["id"]]))
        if latest[job["id"]]["state"] != follow.COMPLETE:
            raise CliError.say(f"{follow.head(job)} is not complete after {timeout:g} s")
    return list(latest.values())


@group.command()
@job_ids
@timeout_option
@output_option("name")
def wait(jobs: tuple[int, ...], timeout: float | None, form: str) -> None:
    """Wait until jobs are complete. Exit code 0 only if all of them ended well.

    \b
    Examples:
      vmcloud job wait 12 13 --timeout 5m
    """
    api, code, found = client(), OK, []
    for number in once(jobs):
        try:
            found.append(api.get(f"/jobs/{number}"))
        except Unreachable:
            raise
        except CliError as error:
            complain(error, str(number))
            code = FAILED
    ended, found = follow.wait(api, found, timeout)
    if form != "name":
        show_objects(found, JOBS, form, single=len(jobs) == 1)
    finish(ended or code)


def _change(verb: str, text: str, examples: tuple[str, ...]) -> Callable[[Callable[..., Any]], click.Command]:
    """Register a command that changes jobs which have not begun."""
    lines = "\n".join(f"  vmcloud job {verb} {each}" for each in examples)

    def made(function: Callable[..., Any]) -> click.Command:
        command = job_ids(output_option("name")(function))
        return group.command(verb, help=f"{text}\n\n\b\nExamples:\n{lines}")(command)

    return made


def _ask_each(jobs: tuple[int, ...], form: str, method: str, path: str, body: dict[str, Any] | None) -> None:
    """Ask for one change of each job, and say where it is then."""
    api, code, asked = client(), OK, []
    for number in once(jobs):
        try:
            job = api.act(method, f"/jobs/{number}{path}", body, key="")
        except Unreachable:
            raise
        except CliError as error:
            complain(error, str(number))
            code = FAILED
            continue
        asked.append(job)
        if form == "name":
            click.echo(job["id"])
        say(follow.sentence(job))
    if form != "name":
        show_objects(asked, JOBS, form, single=len(jobs) == 1)
    finish(code)


who_option = click.option(
    "--who",
    type=click.Choice([each.value for each in Hold]),
    default="u",
    show_default=True,
    help="Whose hold: u user, o operator, s system.",
)


@_change("hold", "Keep jobs that have not begun from beginning, until they are released.", ("12", "12 13 --who o"))
@who_option
def hold(jobs: tuple[int, ...], who: str, form: str) -> None:
    """Hold jobs."""
    _ask_each(jobs, form, "POST", "/hold", {"who": who})


@_change("release", "Take back a hold of jobs.", ("12", "12 --who o"))
@who_option
def release(jobs: tuple[int, ...], who: str, form: str) -> None:
    """Release jobs."""
    _ask_each(jobs, form, "POST", "/release", {"who": who})


@_change(
    "alter",
    "Change when jobs that have not begun may run. Only an administrator may raise a priority or a walltime.",
    ("12 --priority 10", "12 --at 18:00", "12 --depend afterok:11"),
)
@terms_options
def alter(jobs: tuple[int, ...], form: str) -> None:
    """Alter jobs."""
    if not given():
        raise click.UsageError("nothing to alter was given", click.get_current_context())
    _ask_each(jobs, form, "PATCH", "", given())


@_change("run", "Run jobs before all others, whatever they wait for; for administrators. Not what is held.", ("12",))
def run(jobs: tuple[int, ...], form: str) -> None:
    """Run jobs out of turn."""
    _ask_each(jobs, form, "POST", "/run", None)


@_change(
    "retry", "Ask again for what jobs that failed or were cancelled were asked for. Prints the new numbers.", ("12", "12 13")
)
def retry(jobs: tuple[int, ...], form: str) -> None:
    """Retry jobs."""
    _ask_each(jobs, form, "POST", "/retry", None)


@_change("rerun", "Stop and undo jobs that run, and put them back into their queues: the same jobs begin anew.", ("12",))
def rerun(jobs: tuple[int, ...], form: str) -> None:
    """Rerun jobs."""
    _ask_each(jobs, form, "POST", "/rerun", None)


@group.command()
@click.argument("jobs", nargs=-1, required=True, metavar="ID... SIGNAL", shell_complete=names("/jobs", "id"))
@output_option("name")
def signal(jobs: tuple[str, ...], form: str) -> None:
    """Signal jobs that run. TERM, INT, HUP and QUIT ask for their end, as `cancel` does. KILL kills what carries out a step of an
    action, such as a call that hangs; the step begins again, three times at most; for administrators. Jobs are not suspended.

    \b
    Examples:
      vmcloud job signal 12 TERM
      vmcloud job signal 12 13 KILL
    """
    *numbers, name = jobs
    context = click.get_current_context()
    if not numbers:
        raise click.UsageError("give the jobs, and the signal", context)
    wanted = tuple(JobNumber().convert(each, None, context) for each in numbers)
    _ask_each(wanted, form, "POST", "/signal", {"signal": name})


@group.command()
@click.argument("queue", type=Name(), shell_complete=names("/queues"))
@job_ids
@output_option("name")
def move(jobs: tuple[int, ...], queue: str, form: str) -> None:
    """Put jobs that have not begun into another queue.

    \b
    Examples:
      vmcloud job move batch 12 13
    """
    _ask_each(jobs, form, "POST", "/move", {"queue": queue})


@group.command()
@click.argument("job", type=JobNumber(), metavar="ID", shell_complete=names("/jobs", "id"))
@click.argument("other", type=JobNumber(), metavar="OTHER", shell_complete=names("/jobs", "id"))
def order(job: int, other: int) -> None:
    """Let two jobs that have not begun change places in the queue.

    \b
    Examples:
      vmcloud job order 12 13
    """
    say(follow.sentence(client().act("POST", f"/jobs/{job}/order", {"job": other}, key="")))


@group.command()
@click.argument("job", type=JobNumber(), metavar="ID", shell_complete=names("/jobs", "id"))
@timeout_option
def watch(job: int, timeout: float | None) -> None:
    """Follow one job to its end: its steps, their phases and percent, each change as a line on stdout.

    \b
    Examples:
      vmcloud job watch 12
    """
    api, shown, last = client(), set[str](), None
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        for last in follow.changes(api, job, deadline=deadline, lost=lambda text: say(f"{text}; trying again")):
            steps = [follow.step_sentence(step) for step in last["steps"] if step["state"] != "planned"]
            summary = follow.sentence({**last, "steps": []})
            for text in (*steps, summary) if last["state"] == follow.COMPLETE else (summary, *steps):
                if text not in shown:
                    shown.add(text)
                    click.echo(text)
    except KeyboardInterrupt:
        say(f"vmcloud: job {job} goes on\n  do: follow: `vmcloud job watch {job}`; end: `vmcloud job cancel {job}`")
        finish(INTERRUPTED)
    if last is None or last["state"] != follow.COMPLETE:
        raise CliError.say(f"job {job} is not complete after {timeout or 0:g} s", todo=f"It goes on: `vmcloud job watch {job}`.")
    if problem := follow.failure(last):
        raise CliError(problem)


@group.command()
@click.argument("job", type=JobNumber(), metavar="ID", shell_complete=names("/jobs", "id"))
@click.option("-f", "--follow", "following", is_flag=True, help="Go on until the job is complete.")
@output_option()
def logs(job: int, following: bool, form: str) -> None:
    """Print a job's history: one line per event.

    \b
    Examples:
      vmcloud job logs 12
      vmcloud job logs 12 --follow
    """
    api = client()
    if form in ("json", "yaml"):
        show_list(list(api.every(f"/jobs/{job}/events", limit=EVENTS_KEPT)), Shape((), name="id"), form)
        return
    known = 0
    states = follow.changes(api, job, deadline=None, lost=say) if following else [api.get(f"/jobs/{job}")]
    for _ in states:
        for event in api.every(f"/jobs/{job}/events", limit=EVENTS_KEPT):
            if event["id"] > known:
                known = event["id"]
                click.echo(event["id"] if form == "name" else printable(f"{event['at']}  {event['text']}"))
