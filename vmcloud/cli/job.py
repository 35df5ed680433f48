"""``vmcloud job``: the queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from vmcloud.domain.arrays import JobRef
from vmcloud.domain.terms import Hold
from vmcloud.domain.vocabulary import Verb

from . import follow
from .common import JOBS, JobName, Name, Seconds, check_node, client, finish, names, once, output_option, say, tried
from .errors import INTERRUPTED, CliError, printable
from .output import Shape, show_list, show_objects
from .rest import Client, segment
from .terms import Slots, given, terms_options

job_ids = click.argument(
    "jobs", nargs=-1, required=True, type=JobName(several=True), metavar="ID...", shell_complete=names("/jobs", "ref")
)
timeout_option = click.option("--timeout", type=Seconds(), metavar="TIME", help="At most this long (30, 5m).")
EVENTS_KEPT = 10_000


@click.group()
def group() -> None:
    """Jobs: every action is one."""


@group.command("list")
@click.option("--active", is_flag=True, help="Only those that are not complete.")
@click.option("--mine", is_flag=True, help="Only your own.")
@click.option("--archived", is_flag=True, help="Only those that ended long ago, out of the archive.")
@click.option("--ve", type=Name(), metavar="NAME", help="Only this VE's.", shell_complete=names("/ves"))
@click.option("--node", type=Name(), metavar="NAME", help="Only this node's.", shell_complete=names("/nodes"))
@click.option("--verb", type=click.Choice([verb.value for verb in Verb]), metavar="VERB", help="Only this verb, such as create.")
@click.option("--queue", type=Name(), metavar="NAME", help="Only this queue's.", shell_complete=names("/queues"))
@click.option("--state", type=click.Choice(list("QHWRETSBC")), help="Only this state (Torque's letters).")
@click.option("-t", "--expand", is_flag=True, help="The parts of arrays, each by itself.")
@click.option("--array", type=JobName(), metavar="ID", help="Only the parts of this array.", shell_complete=names("/jobs", "ref"))
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many, the newest.")
@output_option()
def list_(form: str, limit: int, active: bool, mine: bool, archived: bool, expand: bool, **filters: str | None) -> None:
    """List jobs, newest first. S is the state: Q queued, H held, W waits, R running, E exiting, C complete; B an array of which
    parts have begun, X a part that has ended.

    \b
    Examples:
      vmcloud job list
      vmcloud job list --active -t
      vmcloud job list --ve web-1 -o json
      vmcloud job list --archived --verb delete
    """
    query = {name: value for name, value in filters.items() if value}
    query |= {name: "true" for name, on in (("active", active), ("mine", mine), ("archived", archived), ("expand", expand)) if on}
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
def show(jobs: tuple[str, ...], form: str) -> None:
    """Show jobs with their steps; of an array how its parts are, and those that did not end well.

    \b
    Examples:
      vmcloud job show 12 -o json
      vmcloud job show '41[]' '41[7]'
    """
    api = client()
    found, code = _looked_up(api, jobs)
    show_objects(found, JOBS, form, single=len(found) == 1)
    finish(code)


def _looked_up(api: Client, jobs: Sequence[str]) -> tuple[list[follow.Job], int]:
    """What there is of these; several parts of an array are several jobs. And the exit code."""
    found, code = tried(once(jobs), lambda ref: _look_up(api, ref))
    return [job for some in found for job in some], code


def _look_up(api: Client, ref: str) -> list[follow.Job]:
    said = JobRef.parse(ref)
    if said.parts is None or said.index is not None:
        return [api.get(f"/jobs{segment(ref)}")]
    found = list(api.every("/jobs", {"array": str(said.number), "indices": str(said.parts)}))
    if len(found) < len(said.parts):
        raise CliError.say(f"there are {len(found)} of these parts", todo=f"Look at `vmcloud job show '{said.number}[]'`.")
    return found[::-1]


@group.command()
@job_ids
@click.option("-f", "--force", is_flag=True, help="End what has begun now, without its undo; for administrators.")
@click.option("-w", "--wait", "wait", is_flag=True, help="Until they are complete. A cancelled job is a success here.")
@timeout_option
@output_option("name")
def cancel(jobs: tuple[str, ...], force: bool, wait: bool, timeout: float | None, form: str) -> None:
    """Cancel jobs: what has not begun never will, what has is stopped and undone. By force, the job says what may be left where.

    \b
    Examples:
      vmcloud job cancel 12
      vmcloud job cancel 12 --force --wait
      vmcloud job cancel '41[]' '42[0-9]' --wait
      vmcloud job list --active -o name | xargs vmcloud job cancel
    """
    body = {"force": True} if force else None
    _ask_each(jobs, form, "POST", "/cancel", body, key="cancel", wait=wait, timeout=timeout)


def _until_complete(api: Client, jobs: list[follow.Job], timeout: float | None) -> list[follow.Job]:
    """Wait without judging how the jobs ended."""
    line, latest = follow.Line(), {job["id"]: job for job in jobs}
    deadline = None if timeout is None else time.monotonic() + timeout
    for job in jobs:
        for now in follow.changes(api, job["ref"], deadline=deadline, lost=line.show):
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
def wait(jobs: tuple[str, ...], timeout: float | None, form: str) -> None:
    """Wait until jobs are complete. Exit code 0 only if all of them ended well.

    \b
    Examples:
      vmcloud job wait 12 13 --timeout 5m
    """
    api = client()
    found, code = _looked_up(api, jobs)
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


def _ask_each(
    jobs: tuple[str, ...],
    form: str,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    *,
    key: str = "",
    wait: bool = False,
    timeout: float | None = None,
) -> None:
    """Ask for one change of each job, and say where it is then; ``wait``: when it is complete."""
    api = client()

    def ask(ref: str) -> follow.Job:
        job = api.act(method, f"/jobs{segment(ref)}{path}", body, key=key)
        if form == "name":
            click.echo(job["ref"])
        say(follow.sentence(job) if job["state"] != follow.COMPLETE else f"{follow.head(job)} is complete already")
        return job

    asked, code = tried(once(jobs), lambda ref: (ref, ask(ref)))
    shown = [job for _, job in asked]
    if wait or timeout is not None:
        shown = _until_complete(api, [job for ref, _ in asked for job in _look_up(api, ref)], timeout)
    if form != "name":
        show_objects(shown, JOBS, form, single=len(jobs) == 1)
    finish(code)


who_option = click.option(
    "--who",
    type=click.Choice([each.value for each in Hold]),
    default="u",
    show_default=True,
    help="Whose hold: u user, o operator, s system.",
)


@_change(
    "hold",
    "Keep jobs that have not begun from beginning, until they are released.",
    ("12", "12 13 --who o", "'41[]'", "'41[0-9]'"),
)
@who_option
def hold(jobs: tuple[str, ...], who: str, form: str) -> None:
    """Hold jobs."""
    _ask_each(jobs, form, "POST", "/hold", {"who": who})


@_change("release", "Take back a hold of jobs.", ("12", "12 --who o"))
@who_option
def release(jobs: tuple[str, ...], who: str, form: str) -> None:
    """Release jobs."""
    _ask_each(jobs, form, "POST", "/release", {"who": who})


@_change(
    "alter",
    "Change when jobs that have not begun may run. Only an administrator may raise a priority or a walltime.",
    ("12 --priority 10", "12 --at 18:00", "12 --depend afterok:11", "'41[]' --slots 10"),
)
@terms_options
@click.option("--slots", type=Slots(), metavar="N", help="Of an array: parts that may run at once, or none for no limit.")
def alter(jobs: tuple[str, ...], slots: int | None, form: str) -> None:
    """Alter jobs."""
    asked = {**given(), **({} if slots is None else {"slots": slots or None})}
    if not asked:
        raise click.UsageError("nothing to alter was given", click.get_current_context())
    _ask_each(jobs, form, "PATCH", "", asked)


@_change("run", "Run jobs before all others, whatever they wait for; for administrators. Not what is held.", ("12",))
def run(jobs: tuple[str, ...], form: str) -> None:
    """Run jobs out of turn."""
    _ask_each(jobs, form, "POST", "/run", None)


@_change(
    "retry",
    "Ask again for what failed jobs, or cancelled ones, were asked for (of an array, its parts). Prints the new numbers.",
    ("12", "12 13", "'41[]'"),
)
def retry(jobs: tuple[str, ...], form: str) -> None:
    """Retry jobs."""
    _ask_each(jobs, form, "POST", "/retry", None)


@_change("rerun", "Stop and undo jobs that run, and put them back into their queues: the same jobs begin anew.", ("12",))
def rerun(jobs: tuple[str, ...], form: str) -> None:
    """Rerun jobs."""
    _ask_each(jobs, form, "POST", "/rerun", None)


@group.command()
@click.argument("jobs", nargs=-1, required=True, metavar="ID... SIGNAL", shell_complete=names("/jobs", "ref"))
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
    wanted = tuple(JobName(several=True).convert(each, None, context) for each in numbers)
    _ask_each(wanted, form, "POST", "/signal", {"signal": name})


@group.command()
@click.argument("queue", type=Name(), shell_complete=names("/queues"))
@job_ids
@output_option("name")
def move(jobs: tuple[str, ...], queue: str, form: str) -> None:
    """Put jobs that have not begun into another queue.

    \b
    Examples:
      vmcloud job move batch 12 13
    """
    _ask_each(jobs, form, "POST", "/move", {"queue": queue})


@group.command()
@click.argument("job", type=JobName(), metavar="ID", shell_complete=names("/jobs", "ref"))
@click.argument("other", type=JobName(), metavar="OTHER", shell_complete=names("/jobs", "ref"))
def order(job: str, other: str) -> None:
    """Let two jobs that have not begun change places in the queue.

    \b
    Examples:
      vmcloud job order 12 13
    """
    say(follow.sentence(client().act("POST", f"/jobs{segment(job)}/order", {"job": other}, key="")))


@group.command()
@click.argument("job", type=JobName(), metavar="ID", shell_complete=names("/jobs", "ref"))
@output_option()
def why(job: str, form: str) -> None:
    """Say why a job is where it is: all that it waits for, what each node says to it, and what would let it go on.

    \b
    Examples:
      vmcloud job why 12
      vmcloud why 12 -o json
    """
    found = client().get(f"/jobs{segment(job)}/why")
    if form in ("json", "yaml", "name"):
        show_objects([found], Shape((), name="id"), form, single=True)
        return
    click.echo(
        printable(f"job {job} is {found['outcome'] or found['state_name']}" + (f": {found['reason']}" if found["reason"] else ""))
    )
    for cause in found["causes"]:
        click.echo(printable(f"  {cause['text']}"))
        if cause["todo"]:
            click.echo(printable(f"    do: {cause['todo']}"))
    together: dict[str, list[str]] = {}
    for node in found["nodes"]:
        together.setdefault(node["reason"], []).append(node["name"])
    for reason, nodes in together.items():
        click.echo(printable(f"  {', '.join(nodes)}: {reason}"))
    if (queue := found["queue"]) and found["state"] in "QHW":
        limits = "".join(f", {name.replace('_', ' ')} {limit}" for name, limit in queue["limits"].items())
        words = f"queue {queue['name']}: {queue['queued']} queued, {queue['running']} running{limits}; {queue['ahead']} before it"
        click.echo(printable(f"  {words}"))


@group.command()
@click.argument("job", type=JobName(), metavar="ID", shell_complete=names("/jobs", "ref"))
@timeout_option
def watch(job: str, timeout: float | None) -> None:
    """Follow one job to its end: its steps, their phases and percent, each change as a line on stdout; of an array how its parts
    are.

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
        say(f"vmcloud: job {job} goes on\n  do: follow: `vmcloud job watch '{job}'`; end: `vmcloud job cancel '{job}'`")
        finish(INTERRUPTED)
    if last is None or last["state"] != follow.COMPLETE:
        raise CliError.say(
            f"job {job} is not complete after {timeout or 0:g} s", todo=f"It goes on: `vmcloud job watch '{job}'`."
        )
    if problem := follow.failure(last):
        raise CliError(problem)


@group.command()
@click.argument("job", type=JobName(), metavar="ID", shell_complete=names("/jobs", "ref"))
@click.option("-f", "--follow", "following", is_flag=True, help="Go on until the job is complete.")
@output_option()
def logs(job: str, following: bool, form: str) -> None:
    """Print a job's history: one line per event.

    \b
    Examples:
      vmcloud job logs 12
      vmcloud job logs 12 --follow
    """
    api = client()
    if form in ("json", "yaml"):
        show_list(list(api.every(f"/jobs{segment(job)}/events", limit=EVENTS_KEPT)), Shape((), name="id"), form)
        return
    known = 0
    states = follow.changes(api, job, deadline=None, lost=say) if following else [api.get(f"/jobs{segment(job)}")]
    for _ in states:
        for event in api.every(f"/jobs{segment(job)}/events", limit=EVENTS_KEPT):
            if event["id"] > known:
                known = event["id"]
                click.echo(event["id"] if form == "name" else printable(f"{event['at']}  {event['text']}"))
