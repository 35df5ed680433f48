"""Forms about VEs. They check little themselves: the services do, and their words are shown beside the field they are about."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction

from vmcloud.domain import verbs
from vmcloud.domain.errors import VmcloudError
from vmcloud.domain.kinds import KINDS, Support
from vmcloud.domain.lease import compact, parse_duration
from vmcloud.domain.queueing import DEFAULT_QUEUE
from vmcloud.domain.spec import ABOUT, Spec
from vmcloud.domain.verbs import Verb, request
from vmcloud.domain.vocabulary import Desired, Drift, Kind, LeaseAction, Power, Restart
from vmcloud.fleet.models import VE, Image, Job, Node, Stray
from vmcloud.fleet.services import accounts, matrix, queues, submit

from . import base

T = TypeVar("T")


class Asking(forms.Form):
    """A form that becomes a job. Sent twice, it is one: it carries its own Idempotency-Key. ``layout``: the names of its fields,
    in lines and titled parts, where its page shows it by :attr:`parts`."""

    layout: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = ()
    key = forms.CharField(widget=forms.HiddenInput, max_length=200)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["initial"] = {"key": base.new_key(), **kwargs.get("initial", {})}
        super().__init__(*args, **kwargs)

    def clean_description(self) -> str:
        """Browsers end lines as HTTP does; a description has plain ones."""
        return str(self.cleaned_data["description"]).replace("\r\n", "\n")

    @property
    def parts(self) -> list[tuple[str, list[list[forms.BoundField]]]]:
        """Its fields as the page shows them, as far as they are there."""
        there = [(title, [[name for name in line if name in self.fields] for line in lines]) for title, lines in self.layout]
        return [(title, [[self[name] for name in line] for line in lines if line]) for title, lines in there]

    def _try(self, submit_it: Callable[[], T]) -> T | None:
        """What the service answers; None with the refusal on its field."""
        try:
            return submit_it()
        except VmcloudError as error:
            problem = error.problem
            place = problem.where.removeprefix("spec.").removeprefix("job.")
            if place in self.fields:
                # Beside the field its name need not be said again.
                problem = dataclasses.replace(problem, where="")
            self.add_error(place if place in self.fields else None, ValidationError(_sentence(base.sentence(problem))))
            return None


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _restart() -> forms.ChoiceField:
    return forms.ChoiceField(
        choices=[(each.value, each.value) for each in Restart],
        initial=Restart.ON_FAILURE.value,
        label="Restart policy",
        help_text="Seen stopped though wanted running: on-failure starts it after a crash or kill and leaves its own shutdown.",
    )


def _lease_action() -> forms.ChoiceField:
    return forms.ChoiceField(
        choices=[(each.value, each.value) for each in LeaseAction],
        required=False,
        label="When the lease is over",
        help_text="It is stopped at the end. With delete it is deleted too, when the grace is over.",
    )


class CreateForm(Asking):
    """A new VE."""

    name = forms.CharField(max_length=50, help_text="A DNS label, such as web-1; unique in its project.")
    project = forms.CharField(max_length=63, initial="main")
    kind = forms.ChoiceField()
    image = forms.ChoiceField()
    vcpus = forms.IntegerField(initial=1, min_value=1, label="Virtual CPUs")
    memory_mib = forms.IntegerField(initial=128, min_value=1, label="Memory (MiB)")
    power = forms.ChoiceField(choices=[(each.value, each.value) for each in (Desired.RUNNING, Desired.STOPPED)], label="Wanted")
    restart = _restart()
    node = forms.ChoiceField(required=False, help_text="Empty: the scheduler chooses.")
    queue = forms.ChoiceField(required=False, help_text="The line in which its job waits.")
    array = forms.CharField(
        required=False, help_text="Many at once: 0-99, 1,3,7-9, or 0-99%5 for five at a time. The name has %i for the index."
    )
    lease = forms.CharField(
        required=False, max_length=20, help_text="How long it may live: 8h, 30d, none. Empty: as its queue says."
    )
    lease_action = _lease_action()
    description = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 3}))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offers = {each["kind"]: each["nodes_up"] for each in matrix.kinds_json()}
        kinds = sorted(matrix.usable(), key=lambda kind: not offers.get(kind.value))
        titles = [
            (kind.value, f"{kind.value}: {KINDS[kind].title}" + ("" if offers.get(kind.value) else " (no node up)"))
            for kind in kinds
        ]
        self.fields["kind"].choices = titles
        self.fields["image"].choices = [(row.name, row.name) for row in Image.objects.order_by("name")]
        self.fields["queue"].choices = [(name, name) for name in queues.load()]
        self.fields["queue"].initial = DEFAULT_QUEUE
        self.fields["node"].choices = [("", "any"), *((row.name, row.name) for row in Node.objects.order_by("name"))]

    def ask(self, actor: accounts.Actor) -> Job | None:
        """Submit."""
        terms = ("queue", "array")
        beside = ("key", "lease", "lease_action", *terms)
        data = {name: value for name, value in self.cleaned_data.items() if name not in beside}
        if text := self.cleaned_data["lease"].strip().lower():
            seconds = parse_duration(text)
            if text != "none" and seconds is None:
                self.add_error("lease", ValidationError("This is no time. Give something like 8h or 30d."))
                return None
            said = {"for": seconds, "action": self.cleaned_data["lease_action"] or LeaseAction.STOP.value}
            data["lease"] = None if text == "none" else said
        data["job"] = {name: self.cleaned_data[name] for name in terms if self.cleaned_data[name]}
        return self._try(lambda: submit.create_ve(actor, data, origin="admin", key=self.cleaned_data["key"]))


class ChangeForm(Asking):
    """What is wanted of a VE: its size, and what only the record shows. Each of the two is a job of its own."""

    vcpus = forms.IntegerField(min_value=1, label="Virtual CPUs")
    memory_mib = forms.IntegerField(min_value=1, label="Memory (MiB)")
    restart = _restart()
    drift = forms.ChoiceField(
        choices=[(each.value, each.value) for each in Drift],
        help_text="When somebody else changes its power or size: report it, or apply what is wanted again.",
    )
    description = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 3}))

    def __init__(self, row: VE, *args: Any, **kwargs: Any) -> None:
        self.row = row
        self.now = {"vcpus": row.vcpus, "memory_mib": row.memory_mib, **{name: row.spec.get(name, "") for name in ABOUT}}
        super().__init__(*args, initial=self.now, **kwargs)
        for name, unit in (("vcpus", ""), ("memory_mib", " MiB")):
            self.fields[name].help_text = f"Now {self.now[name]}{unit}."
            self.fields[name].disabled = "resize" not in verbs.able(Kind(row.kind))

    def ask(self, actor: accounts.Actor) -> list[Job]:
        """Submit what is different: all of it or nothing. Empty with the refusal on its field."""
        said = self.cleaned_data
        new = {name: said[name] for name, value in self.now.items() if said[name] != value}
        asked = [
            (verb, args)
            for verb, names in (("resize", ("vcpus", "memory_mib")), ("alter", ABOUT))
            if (args := {name: new[name] for name in names if name in new})
        ]
        if not asked:
            self.add_error(None, ValidationError("Nothing is different from what is wanted now."))
        made = []
        with transaction.atomic():
            for verb, args in asked:
                if (job := self._try(functools.partial(self._submit, actor, verb, args))) is None:
                    transaction.set_rollback(True)
                    return []
                made.append(job)
        return made

    def _submit(self, actor: accounts.Actor, verb: str, args: dict[str, Any]) -> Job:
        key = f"{self.cleaned_data['key']}:{verb}:{self.row.uuid}"
        return submit.act(actor, str(self.row.uuid), verb, args, project=self.row.project, origin="admin", key=key)


class AdoptForm(Asking):
    """What an orphan is to be as a VE."""

    name = forms.CharField(max_length=50, help_text="A DNS label, such as web-1; unique in its project.")
    project = forms.CharField(max_length=63, initial="main")
    owner = forms.CharField(max_length=150, required=False, help_text="Empty: you.")
    vcpus = forms.IntegerField(min_value=1, required=False, label="Virtual CPUs")
    memory_mib = forms.IntegerField(min_value=1, required=False, label="Memory (MiB)")
    restart = _restart()
    description = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 3}))
    layout = (("", (("name",), ("owner", "project"), ("vcpus", "memory_mib"), ("restart",), ("description",))),)

    def __init__(self, row: Stray, *args: Any, **kwargs: Any) -> None:
        self.row = row
        super().__init__(*args, initial={"name": row.native}, **kwargs)
        for name, unit in (("vcpus", ""), ("memory_mib", " MiB")):
            has = getattr(row, name)
            self.fields[name].help_text = f"Empty: what it has, {has}{unit}." if has else "It has no limit: say how much."
            self.fields[name].required = not has and name == "memory_mib"

    def ask(self, actor: accounts.Actor) -> Job | None:
        """Submit what was filled in."""
        data = {name: value for name, value in self.cleaned_data.items() if name != "key" and value not in ("", None)}
        row, key = self.row, self.cleaned_data["key"]
        return self._try(lambda: submit.adopt(actor, row.node, row.native, data, origin="admin", key=key))


class SnapshotForm(Asking):
    """A new snapshot of a VE."""

    snapshot = forms.CharField(max_length=63, label="Name", help_text="A DNS label, such as before-upgrade.")
    layout = (("", (("snapshot",),)),)

    def __init__(self, row: VE, *args: Any, **kwargs: Any) -> None:
        self.row = row
        super().__init__(*args, **kwargs)

    def ask(self, actor: accounts.Actor) -> Job | None:
        """Submit."""
        args, key = {"snapshot": self.cleaned_data["snapshot"]}, f"{self.cleaned_data['key']}:{self.row.uuid}"
        row = self.row
        return self._try(lambda: submit.act(actor, str(row.uuid), "snapshot", args, project=row.project, origin="admin", key=key))


class VerbForm(Asking):
    """The request of a verb, from its model. ``submit_it`` is given who asks, the request and its key."""

    def __init__(self, verb: Verb, submit_it: Callable[..., Job], *args: Any, **kwargs: Any) -> None:
        self._submit_it, self._about = submit_it, {n: each for n, each in verb.fields.items() if not each[1].hidden}
        super().__init__(*args, **kwargs)
        for name, (each, about) in self._about.items():
            self.fields[name] = _field(name, about, each.default, required=request.needed(each))
        self.layout = (("", tuple((name,) for name in self._about)),)

    def ask(self, actor: accounts.Actor) -> Job | None:
        """Submit what was filled in; what was left empty is not said."""
        said = {name: value for name, value in self.cleaned_data.items() if name != "key" and value not in ("", None)}
        return self._try(lambda: self._submit_it(actor, args=said, key=self.cleaned_data["key"]))


def _field(name: str, about: request.About, default: Any, *, required: bool) -> forms.Field:
    """One field of a request on a page."""
    initial = None if default is request.NEEDED or default is request.UNSAID else default
    words: dict[str, Any] = {
        "label": name.removesuffix("_mib").replace("_", " ").capitalize(),
        "help_text": about.words,
        "initial": initial,
    }
    limits: dict[str, Any] = {"min_value": about.low, "max_value": about.high}
    match about.sort:
        case request.Sort.FLAG:
            return forms.BooleanField(required=False, **words)
        case request.Sort.WHOLE:
            return forms.IntegerField(required=required, **words, **limits)
        case request.Sort.SECONDS:
            return forms.FloatField(required=required, **{**words, "label": f"{words['label']} (seconds)"}, **limits)
        case request.Sort.CHOICE:
            return forms.ChoiceField(required=required, choices=[(each, each) for each in about.choices], **words)
        case request.Sort.LABEL if name == "node":
            nodes = [(row.name, row.name) for row in Node.objects.order_by("name")]
            return forms.ChoiceField(required=required, choices=[*([] if required else [("", "any")]), *nodes], **words)
    return forms.CharField(required=required, max_length=about.longest, **words)


class LeaseForm(Asking):
    """How long a VE may live."""

    length = forms.CharField(max_length=20, label="From now", help_text="Such as 8h or 30d; none: for ever.")
    action = _lease_action()
    grace = forms.CharField(max_length=20, label="Grace", help_text="From the end until it is deleted, or stopped by force: 1h.")
    layout = (("", (("length",), ("action", "grace"))),)

    def __init__(self, row: VE, *args: Any, **kwargs: Any) -> None:
        self.row = row
        now = Spec.parse(row.spec).lease
        super().__init__(*args, initial={"action": now.action.value, "grace": compact(now.grace)}, **kwargs)

    def ask(self, actor: accounts.Actor) -> Job | None:
        """Submit."""
        said, lease = self.cleaned_data, None
        if said["length"].strip().lower() != "none":
            times = {name: parse_duration(said[name].strip()) for name in ("length", "grace")}
            for name, seconds in times.items():
                if seconds is None:
                    self.add_error(name, ValidationError("This is no time. Give something like 8h or 30d."))
            if self.errors:
                return None
            lease = {"for": times["length"], "action": said["action"], "grace": times["grace"]}
        return self._try(functools.partial(self._submit, actor, {"lease": lease}))

    def _submit(self, actor: accounts.Actor, args: dict[str, Any]) -> Job:
        row, key = self.row, f"{self.cleaned_data['key']}:{self.row.uuid}"
        return submit.act(actor, str(row.uuid), "alter", args, project=row.project, origin="admin", key=key)


def restart_needed(row: VE) -> tuple[bool, str]:
    """Whether another size of this VE needs a restart to be had, and why, in words."""
    able = KINDS[Kind(row.kind)].capability(Power.LIVE_RESIZE)
    if row.observed_state != "running":
        return False, f"It is {row.observed_state or 'not seen yet'}: the new size is had when it starts."
    if able.support is Support.YES:
        return False, f"No restart is needed: a running VE of kind {row.kind} is resized as it runs."
    return True, f"It needs a restart: a running VE of kind {row.kind} can not be resized as it runs. {able.why}"
