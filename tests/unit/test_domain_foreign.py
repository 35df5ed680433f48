"""Changes from outside: which verbs they ask for, who may, and how a failed job goes back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcloud.domain import verbs as known
from vmcloud.domain.errors import Conflict, Forbidden, Impossible, Invalid, VmcloudError
from vmcloud.domain.foreign import Demand, Writer, demands, permit, verb_of
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired, Drift, Kind, Restart, Verb
from vmcloud.domain.wish import FIELDS, FIXED, Wish, differences

pytestmark = pytest.mark.unit

WISH = Wish(Desired.RUNNING, Spec(kind=Kind.SIMULATED, image="busybox", memory_mib=64), "ann")
ADMIN = Writer("adam", administrator=True)
OPERATOR = Writer("olga", operator=True, person=True)
OWNER = Writer("Ann", person=True)


def changed(wish: Wish = WISH, **values: Any) -> Wish:
    own = {name: values.pop(name) for name in ("desired", "owner") if name in values}
    return replace(wish, spec=replace(wish.spec, **values), **own)


def verbs(before: Wish, after: Wish) -> list[Verb]:
    return [demand.verb for demand in demands(before, after)]


@pytest.mark.parametrize(
    ("before", "after", "verb"),
    [
        ("running", "stopped", Verb.STOP),
        ("suspended", "stopped", Verb.STOP),
        ("stopped", "running", Verb.START),
        ("suspended", "running", Verb.RESUME),
        ("running", "suspended", Verb.SUSPEND),
        ("stopped", "suspended", None),
        ("running", "absent", Verb.DELETE),
        ("stopped", "absent", Verb.DELETE),
        ("suspended", "absent", Verb.DELETE),
        ("absent", "running", None),
        ("absent", "stopped", None),
        ("absent", "suspended", None),
    ],
)
def test_each_change_of_power(before: str, after: str, verb: Verb | None) -> None:
    was, wanted = changed(desired=Desired(before)), changed(desired=Desired(after))
    if verb is None:
        with pytest.raises(Conflict):
            demands(was, wanted)
        return
    [demand] = demands(was, wanted)
    assert demand.verb is verb and demand.args == {}
    assert demand.after(was, wanted).desired is known.of(verb).power_after is Desired(after)


def test_several_attributes_at_once_come_in_a_sensible_order() -> None:
    after = changed(desired=Desired.STOPPED, memory_mib=96, vcpus=2, restart=Restart.NEVER, owner="bob")
    found = demands(WISH, after)
    assert [each.verb for each in found] == [Verb.ALTER, Verb.RESIZE, Verb.STOP]
    assert found[0].args == {"restart": "never", "owner": "bob"} and found[1].args == {"vcpus": 2, "memory_mib": 96}
    wish = WISH
    for demand in found:
        wish = demand.after(wish, after)
    assert wish == after


def test_what_also_deletes_only_deletes() -> None:
    after = changed(desired=Desired.ABSENT, memory_mib=-1, image="other")
    [demand] = demands(WISH, after)
    assert demand.after(WISH, after) == replace(WISH, desired=Desired.ABSENT)


@pytest.mark.parametrize("name", FIXED)
def test_what_stays_as_it_was_created(name: str) -> None:
    other = {"kind": Kind.LXC, "image": "other", "node": "n2", "privileged": True}[name]
    with pytest.raises(Impossible) as error:
        demands(WISH, changed(**{name: other}))
    assert error.value.problem.where == name and "can not be changed" in error.value.problem.what


@pytest.mark.parametrize(
    "values",
    [
        {"memory_mib": -5},
        {"memory_mib": 0},
        {"memory_mib": 10**15},
        {"vcpus": 70000},
        {"disk_mib": -1},
        {"description": "x" * 1001},
        {"description": "a\x00b"},
        {"owner": "<script>"},
        {"owner": "a b"},
        {"owner": "a\nb"},
        {"owner": "x" * 151},
    ],
    ids=str,
)
def test_values_that_can_not_be(values: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        demands(WISH, changed(**values))


def test_a_refused_change_has_a_name() -> None:
    stopped = changed(desired=Desired.STOPPED)
    assert verb_of(WISH, stopped) is Verb.STOP and verb_of(stopped, WISH) is Verb.START
    assert verb_of(WISH, changed(memory_mib=-1, vcpus=9)) is Verb.RESIZE
    assert verb_of(WISH, changed(desired=Desired.ABSENT, memory_mib=-1)) is Verb.DELETE
    assert verb_of(WISH, changed(image="x")) is verb_of(WISH, changed(desired=Desired.STOPPED, vcpus=9)) is Verb.ALTER
    assert verb_of(stopped, changed(desired=Desired.SUSPENDED)) is Verb.ALTER


def test_who_may_what() -> None:
    allowed = {
        "adam": (ADMIN, set(Verb)),
        "olga": (OPERATOR, {Verb.START, Verb.STOP, Verb.SUSPEND, Verb.RESUME}),
        "ann": (OWNER, set(Verb)),
        "her service": (replace(OWNER, person=False), set()),
        "bob": (Writer("bob", person=True), set()),
        "nobody": (Writer(""), set()),
    }
    for name, (writer, may) in allowed.items():
        for verb in Verb:
            asked = [Demand(verb, frozenset({"desired"}))]
            if verb in may:
                permit(writer, "ann", asked)
                continue
            with pytest.raises(Forbidden):
                permit(writer, "ann", asked)
                pytest.fail(f"{name} may {verb}")
    give_away = [Demand(Verb.ALTER, frozenset({"owner"}))]
    permit(ADMIN, "ann", give_away)
    for writer in (OWNER, OPERATOR):
        with pytest.raises(Forbidden):
            permit(writer, "ann", give_away)
    with pytest.raises(Forbidden):
        permit(replace(OWNER, name=""), "", [Demand(Verb.STOP, frozenset())])


def test_a_failed_job_goes_back_only_where_nobody_wants_something_else() -> None:
    resized, stopped = changed(memory_mib=96), changed(desired=Desired.STOPPED)
    args = {"size": {"memory_mib": 96}}
    assert known.of("resize").back(args, WISH, resized) == WISH
    assert known.of("resize").back(args, WISH, changed(memory_mib=128)) == changed(memory_mib=128)
    both = changed(memory_mib=96, desired=Desired.STOPPED, description="new")
    assert known.of("resize").back(args, WISH, both) == changed(desired=Desired.STOPPED, description="new")
    assert known.of("stop").back({}, WISH, stopped) == WISH
    assert known.of("stop").back({}, WISH, changed(desired=Desired.SUSPENDED)) == changed(desired=Desired.SUSPENDED)
    assert known.of("snapshot").back({}, WISH, both) == both


wishes = st.builds(
    Wish,
    desired=st.sampled_from(Desired),
    owner=st.sampled_from(["", "ann", "bob", "a b"]),
    spec=st.builds(
        Spec,
        kind=st.sampled_from([Kind.SIMULATED, Kind.LXC]),
        image=st.sampled_from(["busybox", "other"]),
        vcpus=st.integers(-1, 3),
        memory_mib=st.sampled_from([-1, 0, 64, 96, 10**14]),
        disk_mib=st.sampled_from([-1, 0, 10]),
        restart=st.sampled_from(Restart),
        drift=st.sampled_from(Drift),
        node=st.sampled_from(["", "n1"]),
        privileged=st.booleans(),
        description=st.sampled_from(["", "x", "\x01"]),
    ),
)


@given(wishes, wishes)
def test_demands_lead_exactly_to_what_was_written_or_nothing_is_taken(before: Wish, after: Wish) -> None:
    """For whatever was accepted and whatever was written: the verbs, one each, or an error in words; never anything else."""
    try:
        found = demands(before, after)
    except VmcloudError as error:
        assert error.problem.what
        return
    assert len({each.verb for each in found}) == len(found)
    wish = before
    for demand in found:
        wish = demand.after(wish, after)
        assert demand.verb in (Verb.ALTER, Verb.RESIZE) or wish.desired is known.of(demand.verb).power_after
    if Verb.DELETE in {each.verb for each in found}:
        assert wish == replace(before, desired=Desired.ABSENT)
    else:
        assert wish == after
    assert bool(found) == bool(differences(before, after))


@given(wishes, wishes, st.sets(st.sampled_from(FIELDS)))
def test_taking_fields_takes_just_these(one: Wish, other: Wish, names: set[str]) -> None:
    taken = one.taking(other, names)
    for name in FIELDS:
        assert taken.value(name) == (other if name in names else one).value(name)
