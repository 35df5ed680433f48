"""The one catch-all of a turn: a job that breaks it is set aside, visibly, and the turn goes on with the others.

An error that no module expects says nothing of the job it came over, so whoever works on one says so beforehand:
``with context.at_hand(job):``, or ``@at_hand`` before a function whose arguments are the context and a job, or anything that has
a ``job`` or names a ``ve`` (:mod:`.context`). Where such blocks stand in each other, the innermost counts.

What becomes of a job (:func:`set_aside`), so that neither this leader's next turn nor the next leader meets it again:

- one that has not begun is held by the system (``s``); an administrator looks at its history, where the traceback is, and
  releases it, or cancels it;
- one that has begun fails. To keep it running would mean that each look at it has to leave it out, for ever, and that nothing
  else is done with its VE meanwhile. Its steps are given up, as by ``cancel --force``: their nodes are told to stop and undo
  them, what they say of it later is written into its history, and reconcile mends what is left;
- one whose work is over, and that can not be recorded, is closed as failed, with what came out of it.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db import DatabaseError

from vmcloud.directory import port
from vmcloud.domain import reconcile
from vmcloud.domain.records import VERecord
from vmcloud.domain.terms import Hold
from vmcloud.domain.vocabulary import EventType, JobState, Outcome
from vmcloud.fleet import database, gather
from vmcloud.fleet.models import ABANDONED, HOLDING, UNBEGUN, VE, Budget, Job, Step, StepState
from vmcloud.fleet.services import events, lanes

from . import arrays
from .context import Context, culprit
from .inbox import Item, Report
from .leader import Deposed

log = logging.getLogger("server")

CODE = "internal"
TRACEBACK = 8000
"""Characters of a traceback that are kept in a job's history: its end, where the error is."""
TODO = "This is a defect of vmcloud: please report it with the traceback in the job's history."
HELD = "held by the system: the server could not go on with it ({what}); see its history"


def stage(context: Context, function: Callable[..., object], *args: Any, **kwargs: Any) -> None:
    """One part of a turn. What it could not do is set aside, and the turn goes on with its next part."""
    context.leader.begin_stage()
    try:
        function(context, *args, **kwargs)
    except (Deposed, *database.AWAY):
        raise
    except gather.Clash as clash:
        log.info("%s is done again: %s", function.__module__, clash)
        context.again = True
    except Exception as error:
        _break_off(context, function.__module__.rpartition(".")[2], error)


def _break_off(context: Context, part: str, error: Exception) -> None:
    """A part of the turn did not come to its end."""
    subject = culprit(error)
    if subject is None:
        words = f"the server's part {part!r} breaks off: {_words(error)}"
        if words in context.broken:
            log.error("%s", words)
            return
        log.error("%s", words, exc_info=error)
        context.broken.add(words)
        with context.leader.transaction():
            events.note(EventType.RULE, words, at=context.clock())
        return
    log.error("%s broke off over %s", part, subject, exc_info=error)
    try:
        set_aside(context, subject, error)
    except (Deposed, *database.AWAY):
        raise
    except Exception:  # the other parts of the turn go on all the same
        log.exception("%s could not be set aside", subject)
        return
    context.again = True


def set_aside(context: Context, subject: object, error: Exception) -> None:
    """Set aside what broke a turn: a job, or the job of what was at hand, or else the VE that it names."""
    job = subject if isinstance(subject, Job) else getattr(subject, "job", None)
    ve = subject.pk if isinstance(subject, VE) else getattr(subject, "ve", None)
    if isinstance(job, Job):
        _set_job_aside(context, job.pk, error)
    elif isinstance(ve, UUID):
        _set_ve_aside(context, ve, error)


def set_item_aside(context: Context, item: Item, error: Exception) -> None:
    """Something that came could not be taken in and is dropped: that is told, of the same words of one node once, and the job
    that it is about is set aside; inside a transaction. Else its node would be asked, and say it again, for ever."""
    told = f"{item.list_name}: {type(error).__name__}" if isinstance(item, Report) else ""
    if told not in context.broken:
        context.broken.update({told} - {""})
        _note_item(context, item, error)
    if (subject := culprit(error)) is not None:
        try:
            set_aside(context, subject, error)
        except DatabaseError:
            raise
        except Exception:
            log.exception("%s could not be set aside", subject)


def _set_job_aside(context: Context, number: int, error: Exception) -> None:
    what, now = _words(error), context.clock()
    with context.leader.transaction():
        job = Job.objects.select_for_update().filter(pk=number).first()
        if job is None or job.state == JobState.COMPLETE:
            return
        context.note(job, f"the server could not go on with it and has set it aside:\n{_trace(error)}")
        if job.state in (*UNBEGUN, JobState.BEGUN):
            _hold(job, what)
        elif job.state == JobState.EXITING:
            problem = _problem(f"its work was over ({job.outcome}), and that could not be recorded: {what}")
            ended = {"outcome": Outcome.FAILED.value, "error": problem, "result": {**(job.result or {}), "ended": job.outcome}}
            reason = problem["what"][:1000]
            job.change(**ended, state=JobState.COMPLETE, settled=True, ended_at=now, reason=reason, to_review=False)
            context.touched.add(job.pk)
            arrays.note(context, [job])
        else:
            steps = list(Step.objects.filter(job=job, state__in=HOLDING))
            Step.objects.filter(pk__in=[step.pk for step in steps]).update(state=StepState.DONE, outcome=ABANDONED, ended_at=now)
            left = [{"node": step.node, "lane": step.lane, "verb": step.verb, "step": step.number} for step in steps]
            problem = _problem(f"the server could not go on with it: {what}")
            context.exit(job, Outcome.FAILED, error=problem, result={"undone": False, "left": left})
            context.stale += steps
        (lanes.leave if job.state == JobState.COMPLETE else lanes.move_on)([job.pk])
        about = {"ve": job.ve, "ve_name": job.ve_name, "owner": job.owner, "project": job.project, "node": job.node}
        events.note(EventType.RULE, f"job {job.ref} was set aside: {what}", at=now, job=job.pk, **about)


def _hold(job: Job, what: str) -> None:
    """What is held is not looked at until it is released; the parts of an array are held with it."""
    for each in (job, *Job.objects.filter(array=job.pk, state__in=UNBEGUN)):
        holds = "".join(letter.value for letter in Hold if letter.value in {*each.holds, Hold.SYSTEM.value})
        state = each.state if each.state == JobState.BEGUN else JobState.HELD
        each.change(state=state, holds=holds, reason=HELD.format(what=what)[:1000], to_review=False, behind=False)


def _set_ve_aside(context: Context, ve: UUID, error: Exception) -> None:
    """No rule does anything more about it, until somebody asks for something by a job or reconciles it with ``fix``."""
    now, what = context.clock(), _words(error)
    with context.leader.transaction():
        spent = {"tries": reconcile.POISONED, "next_at": now}
        Budget.objects.update_or_create(ve=ve, defaults=spent, create_defaults={**spent, "rule": CODE})
        text = f"the rules leave it alone, the server could not go on with it: {what}"
        events.note(EventType.RULE, text, at=now, row=VE.objects.filter(pk=ve).first(), ve=ve)
        context.foreign.add(ve)


def _note_item(context: Context, item: Item, error: Exception) -> None:
    text, about = f"{type(item).__name__.lower()} could not be taken in", dict[str, Any]()
    match item:
        case Report(list_name=name):
            text = f"what was said on {name} could not be taken in"
        case port.Changed(record):
            text = "its entry in the directory could not be taken in"
            if isinstance(record, VERecord):
                about = {"ve": record.ve, "ve_name": record.name, "project": record.project, "owner": record.owner}
    events.note(EventType.RULE, f"{text}: {_words(error)}", at=context.clock(), **about)


def _problem(what: str) -> dict[str, str]:
    return {"code": CODE, "what": what[:1000], "todo": TODO}


def _words(error: BaseException) -> str:
    """The error in one line that any column holds."""
    return f"{type(error).__name__}: {error}".replace("\0", "\ufffd").partition("\n")[0][:300]


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).replace("\0", "\ufffd")[-TRACEBACK:]
