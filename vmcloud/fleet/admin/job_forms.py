"""Forms about jobs that have not begun, and about queues. As everywhere here, the services check, and their words are shown."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from vmcloud.domain.arrays import JOB_MAX
from vmcloud.domain.lease import compact, parse_duration
from vmcloud.domain.queueing import COUNTS, LEASES, SIZES, Queue
from vmcloud.domain.terms import PRIORITY, RETRIES
from vmcloud.fleet.models import Job
from vmcloud.fleet.services import accounts, queues, views, waiting

from .forms import Asking

LISTS = ("users", "routes", "labels")
SWITCHES = ("enabled", "started")
ZERO = "0: no limit."


class OfJob(Asking):
    """A form about one job that has not begun."""

    def __init__(self, job: Job, *args: Any, **kwargs: Any) -> None:
        self.job = job
        super().__init__(*args, **kwargs)


class AlterJobForm(OfJob):
    """Other terms."""

    priority = forms.IntegerField(min_value=PRIORITY[0], max_value=PRIORITY[1], help_text="Higher begins first.")
    not_before = forms.CharField(required=False, help_text="Such as 2030-01-31T18:00Z. Empty: as soon as possible.")
    depend = forms.CharField(
        required=False, label="Waits for", help_text="Such as afterok:12:13,on:2, as in Torque. Empty: for no other job."
    )
    walltime = forms.IntegerField(required=False, min_value=1, label="Walltime (s)", help_text="Empty: as long as it takes.")
    retries = forms.IntegerField(min_value=RETRIES[0], max_value=RETRIES[1])
    slots = forms.IntegerField(required=False, min_value=1, label="Parts at once", help_text="Empty: any number.")
    layout = (("", (("priority", "retries"), ("not_before", "walltime"), ("depend",), ("slots",))),)

    def __init__(self, job: Job, *args: Any, **kwargs: Any) -> None:
        shown = views.job_json(job)
        self.now = {name: shown[name] for name in ("priority", "not_before", "depend", "walltime", "retries")}
        self.now |= {"slots": job.slots or None} if job.size else {}
        super().__init__(job, *args, initial={name: value or "" for name, value in self.now.items()}, **kwargs)
        for name in ("priority", "retries"):
            self.fields[name].initial = self.initial[name] = self.now[name]
        if not job.size:
            del self.fields["slots"]

    def ask(self, actor: accounts.Actor) -> Job | None:
        """Alter what is different."""
        said = {name: self.cleaned_data[name] for name in self.now}
        said |= {name: said[name] or None for name in ("not_before", "walltime", "slots") if name in said}
        changed = {name: value for name, value in said.items() if value != self.now[name]}
        if not changed:
            self.add_error(None, ValidationError("Nothing is different from what it is now."))
            return None
        return self._try(lambda: waiting.alter(actor, self.job.pk, changed))


class MoveForm(OfJob):
    """Another queue."""

    queue = forms.ChoiceField()
    layout = (("", (("queue",),)),)

    def __init__(self, job: Job, *args: Any, **kwargs: Any) -> None:
        super().__init__(job, *args, **kwargs)
        self.fields["queue"].choices = [(name, name) for name in queues.load() if name != job.queue]

    def ask(self, actor: accounts.Actor) -> Job | None:
        """Move it."""
        return self._try(lambda: queues.move(actor, self.job.pk, self.cleaned_data["queue"]))


class OrderForm(OfJob):
    """The job to change places with."""

    other = forms.IntegerField(
        min_value=1, max_value=JOB_MAX, label="Other job", help_text="Its number. It must not have begun either."
    )
    layout = (("", (("other",),)),)

    def ask(self, actor: accounts.Actor) -> Job | None:
        """Exchange the two."""
        return self._try(lambda: waiting.exchange(actor, self.job.pk, self.cleaned_data["other"])[0])


def _count(label: str, help_text: str = ZERO) -> forms.IntegerField:
    return forms.IntegerField(min_value=0, initial=0, label=label, help_text=help_text)


def _names(label: str, help_text: str) -> forms.CharField:
    return forms.CharField(required=False, label=label, help_text=help_text)


def _time(label: str, help_text: str) -> forms.CharField:
    return forms.CharField(required=False, max_length=20, label=label, help_text=help_text)


class QueueForm(Asking):
    """A queue's limits. ``name`` is only asked for where there is none yet."""

    name = forms.CharField(max_length=63, help_text="A DNS label, such as batch.")
    enabled = forms.ChoiceField(choices=[("yes", "yes"), ("no", "no")], label="Takes jobs")
    started = forms.ChoiceField(choices=[("yes", "yes"), ("no", "no")], label="Its jobs may begin")
    priority = forms.IntegerField(
        min_value=PRIORITY[0], max_value=PRIORITY[1], initial=0, help_text="Jobs of queues with a higher one begin first."
    )
    max_running = _count("Jobs that run at once")
    max_user_running = _count("The same, of one user")
    max_queued = _count("Jobs that it holds")
    max_user_queued = _count("The same, of one user")
    min_vcpus = _count("Virtual CPUs, at least", "That a create or a resize asks for.")
    max_vcpus = _count("Virtual CPUs, at most")
    min_memory_mib = _count("Memory (MiB), at least", "That a create or a resize asks for.")
    max_memory_mib = _count("Memory (MiB), at most")
    default_lease = _time("Lease, if none is asked for", "Such as 8h or 30d. Empty: none.")
    max_lease = _time("Lease, at most", "Of creates and renewals. Empty: no limit.")
    users = _names("Users", "Who may submit, with spaces between. Empty: everybody.")
    routes = _names("Routes", "Queues; the first that takes a job has it. Empty: it keeps its jobs.")
    labels = _names("Node labels", "What the nodes of its creates must have, all of them.")
    layout = (
        ("", (("name",), ("enabled", "started"), ("priority",))),
        ("Jobs", (("max_running", "max_user_running"), ("max_queued", "max_user_queued"))),
        (
            "What its jobs may ask for",
            (("min_vcpus", "max_vcpus"), ("min_memory_mib", "max_memory_mib"), ("default_lease", "max_lease")),
        ),
        ("Who and where", (("users",), ("routes",), ("labels",))),
    )

    def __init__(self, queue: Queue | None, *args: Any, **kwargs: Any) -> None:
        self.queue = queue
        super().__init__(*args, initial=_shown(queue) if queue else {}, **kwargs)
        if queue is not None:
            del self.fields["name"]

    def ask(self, actor: accounts.Actor) -> str | None:
        """Make or alter it; its name."""
        said = self.cleaned_data
        data: dict[str, Any] = {name: said[name] for name in ("priority", *COUNTS, *SIZES)}
        data |= {name: said[name] == "yes" for name in SWITCHES}
        data |= {name: said[name].replace(",", " ").split() for name in LISTS}
        data |= {name: self._seconds(name, said[name]) for name in LEASES}
        if self.errors:
            return None
        if self.queue is None:
            return self._try(lambda: queues.create(actor, {"name": said["name"], **data}).name)
        name = self.queue.name
        return self._try(lambda: queues.alter(actor, name, data).name)

    def _seconds(self, name: str, text: str) -> int:
        seconds = parse_duration(text or "0")
        if seconds is None:
            self.add_error(name, ValidationError("This is no time. Give something like 8h or 30d."))
        return round(seconds or 0)


def _shown(queue: Queue) -> dict[str, Any]:
    """A queue as its form says it."""
    said = queue.to_json()
    return {
        **said,
        **{name: " ".join(said[name]) for name in LISTS},
        **{name: "yes" if said[name] else "no" for name in SWITCHES},
        **{name: compact(said[name]) if said[name] else "" for name in LEASES},
    }
