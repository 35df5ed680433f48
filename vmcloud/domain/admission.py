"""Whether a job that has not begun may begin now. Pure: the clock and the state of other jobs are arguments."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from .terms import Depend, Hold
from .vocabulary import JobState, Outcome

HOLD_WORDS = {Hold.USER: "its user", Hold.OPERATOR: "an operator", Hold.SYSTEM: "the system"}
RETRY_BACKOFF = (5.0, 300.0)
"""Seconds before the second try, doubled each time, and the most."""


@dataclass(frozen=True)
class Tally:
    """How many parts an array has; of them, how many began, ended, ended well, and ended before they began."""

    size: int
    began: int = 0
    ended: int = 0
    ok: int = 0
    never_began: int = 0


@dataclass(frozen=True)
class Link:
    """A dependency on another job, as that is now. ``counted``: made by the other one's *before*, for ``on:N``. ``outcome`` is
    that of a job that has ended; ``known`` False: there is no such job any more. ``tally``, ``count``: where it counts an
    array's parts, how they are, and how many it needs (0: all)."""

    type: Depend
    job: int | str
    began: bool = False
    outcome: Outcome | None = None
    counted: bool = False
    known: bool = True
    tally: Tally | None = None
    count: int = 0


@dataclass(frozen=True)
class Applicant:
    """A job that has not begun."""

    holds: frozenset[Hold] = frozenset()
    not_before: float | None = None
    links: tuple[Link, ...] = ()
    awaits: int = 0


class Admission(StrEnum):
    """What becomes of an applicant."""

    READY = "ready"
    HELD = "held"
    WAITING = "waiting"
    NEVER = "never"


@dataclass(frozen=True)
class Verdict:
    """An answer, and why in words. ``state`` is Torque's letter for it."""

    admission: Admission
    reason: str = ""

    @property
    def state(self) -> JobState:
        """H for what is held or waits for other jobs, W for what waits for its time, else Q."""
        return {Admission.HELD: JobState.HELD, Admission.WAITING: JobState.WAITING}.get(self.admission, JobState.QUEUED)


READY = Verdict(Admission.READY)


def admit(job: Applicant, now: float) -> Verdict:
    """First match wins: a dependency that can never be met, a hold, an unmet dependency, a time to come."""
    states = [(link, met(link)) for link in job.links]
    for link, state in states:
        if state is None and not link.counted:
            return Verdict(Admission.NEVER, _never(link))
    if job.holds:
        who = " and ".join(HOLD_WORDS[each] for each in Hold if each in job.holds)
        return Verdict(Admission.HELD, f"held by {who}")
    if unmet := [link for link, state in states if not state and not link.counted]:
        return Verdict(Admission.HELD, f"waits for {_list(unmet)}")
    if job.awaits:
        done = sum(bool(state) for link, state in states if link.counted)
        if done < job.awaits:
            return Verdict(Admission.HELD, f"waits for {job.awaits} jobs that are to run before it; {done} have")
    if job.not_before is not None and now < job.not_before:
        return Verdict(Admission.WAITING, "waits for its time")
    return READY


def through(gate: Verdict, own: Verdict) -> Verdict:
    """Of a part: whether it may begin by itself, and by what is said of its whole array."""
    return gate if gate.admission is Admission.NEVER or own.admission is Admission.READY else own


def met(link: Link) -> bool | None:
    """Whether it is met; None: it never can be."""
    if not link.known:
        return True if link.type in (Depend.AFTER_ANY, Depend.AFTER_ANY_ARRAY) else None
    if link.tally is not None:
        return _enough(link.type, link.tally, link.count or link.tally.size)
    ended = link.outcome is not None
    match link.type:
        case Depend.AFTER:
            return True if link.began else (None if ended else False)
        case Depend.AFTER_ANY:
            return ended
        case Depend.AFTER_OK:
            return None if ended and link.outcome is not Outcome.OK else ended
        case _:
            return None if link.outcome is Outcome.OK else ended


def _enough(type: Depend, tally: Tally, needed: int) -> bool | None:
    """Whether so many parts did what is waited for; None: not so many are left that could."""
    not_ok = tally.ended - tally.ok
    done, lost = {
        Depend.AFTER_START_ARRAY: (tally.began, tally.never_began),
        Depend.AFTER_OK_ARRAY: (tally.ok, not_ok),
        Depend.AFTER_NOT_OK_ARRAY: (not_ok, tally.ok),
    }.get(type, (tally.ended, 0))
    return True if done >= needed else (None if tally.size - lost < needed else False)


def _never(link: Link) -> str:
    if not link.known:
        return f"job {link.job}, which it was to follow ({link.type}), is not known any more"
    if (tally := link.tally) is not None:
        needed = link.count or tally.size
        ends = f"{tally.ok} of its {tally.size} parts ended ok, {tally.ended - tally.ok} did not"
        return f"job {link.job}, which it was to follow ({link.type}, {needed} parts), can not come to that: {ends}"
    end = "ended before it began" if link.type is Depend.AFTER else f"ended {link.outcome}"
    return f"job {link.job}, which it was to follow ({link.type}), {end}"


def _list(links: Iterable[Link]) -> str:
    words = [f"job {link.job} ({link.type}{f', {link.count} parts' if link.count else ''})" for link in links]
    return ", ".join(words[:5]) + (f" and {len(words) - 5} more" if len(words) > 5 else "")


def cycle(start: int, waits_for: Mapping[int, Collection[int]]) -> list[int]:
    """A way from a job back to itself along what it waits for; empty if there is none."""
    path, seen = [start], {start}
    ways = [iter(sorted(waits_for.get(start, ())))]
    while ways:
        following = next(ways[-1], None)
        if following is None:
            ways.pop()
            path.pop()
        elif following == start:
            return [*path, start]
        elif following not in seen:
            seen.add(following)
            path.append(following)
            ways.append(iter(sorted(waits_for.get(following, ()))))
    return []


def retry_pause(tries: int) -> float:
    """Seconds until the next try after so many."""
    return min(RETRY_BACKOFF[0] * 2.0 ** max(0, tries - 1), RETRY_BACKOFF[1])
