"""Arrays: which indices, how many at once, names, and what people call them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcloud.domain.admission import Admission, Applicant, Link, Tally, Verdict, admit, through
from vmcloud.domain.arrays import ArrayRequest, Indices, JobRef, check_pattern, is_pattern, named
from vmcloud.domain.errors import Invalid
from vmcloud.domain.queueing import Entry, Filling, Queue, refusal
from vmcloud.domain.terms import Depend, parse_depend

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "wanted", "slots"),
    [
        ("0-99%5", "0-99", 5),
        ("7", "7", 0),
        ("1,3,7-9", "1,3,7-9", 0),
        ("9,7,8", "7-9", 0),
        ("5-9, 0-4", "0-9", 0),
        ("0-999999%999999", "0-999999", 999999),
    ],
)
def test_indices_are_read_in_any_order_and_written_in_one(text: str, wanted: str, slots: int) -> None:
    request = ArrayRequest.parse(text, "array")
    assert (str(request.indices), request.slots) == (wanted, slots)
    assert ArrayRequest.parse(str(request), "array") == request


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "missing"),
        ("%5", "missing"),
        ("0-9,", "missing"),
        ("9-0", "backwards"),
        ("1,1", "twice"),
        ("0-9,5", "twice"),
        ("0-1000000", "out of range"),
        ("0-999999999999999999", "out of range"),
        ("0-9999999999999999999", "no index and no range"),
        ("-1", "no index and no range"),
        ("a-b", "no index and no range"),
        ("1-2-3", "no index and no range"),
        ("0-9:2", "no index and no range"),
        ("٣", "no index and no range"),
        ("0-9%0", "a slot limit of 0"),
        ("0-9%", "slot limit is missing"),
        ("0-9%many", "is no slot limit"),
        ("0-9%-1", "is no slot limit"),
        ("0-9%9999999", "is not possible"),
        (",".join(["1"] * 60000), "characters"),
    ],
)
def test_what_is_no_array_is_refused_in_words(text: str, word: str) -> None:
    with pytest.raises(Invalid) as caught:
        ArrayRequest.parse(text, "job.array")
    assert word in caught.value.problem.sentence() and caught.value.problem.where == "job.array"


def test_the_longest_range_costs_nothing() -> None:
    began = time.monotonic()
    request = ArrayRequest.parse("0-999999", "array")
    assert len(request.indices) == 1_000_000 and 999_999 in request.indices and 1_000_000 not in request.indices
    assert time.monotonic() - began < 0.1


@given(st.sets(st.integers(0, 60), min_size=1))
def test_indices_are_a_set(numbers: set[int]) -> None:
    indices = Indices.of(list(numbers))
    assert list(indices) == sorted(numbers) and len(indices) == len(numbers) and indices.highest == max(numbers)
    assert Indices.parse(str(indices), "array") == indices
    assert all((each in indices) == (each in numbers) for each in range(62))


@pytest.mark.parametrize("text", ["12", "41[]", "41[7]", "41[0-9]", "41[1,3,7-9]"])
def test_what_jobs_are_called_is_read_and_written(text: str) -> None:
    assert str(JobRef.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "0", "x", "[]", "41[", "41]", "41[]]", "41[9-1]", "41[x]", "-1", "41[1][2]", "9" * 17, "٤١"]
)
def test_what_no_job_can_be_called_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        JobRef.parse(text)


def test_a_name_has_one_place_for_the_index() -> None:
    assert [named(pattern, 7) for pattern in ("web-%i", "%ix", "w%03i-a")] == ["web-7", "7x", "w007-a"]
    assert named("w%02i", 123) == "w123" and is_pattern("a%i") and not is_pattern("a%d") and not is_pattern("web-1")
    few = Indices.parse("0-9", "array")
    assert check_pattern("web-%i", few) == "web-%i"
    for wrong in ("web", "web-%i-%i", "Web-%i", "%i-", "web_%i", "x" * 50 + "%i", "web-%7i", "%09i", "", None, 7):
        with pytest.raises(Invalid):
            check_pattern(wrong, few)
    fits = "x" * 48 + "%i"
    assert check_pattern(fits, Indices.parse("0-99", "array"))
    with pytest.raises(Invalid, match="51 characters"):
        check_pattern(fits, Indices.parse("0-100", "array"))


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("afterokarray:41[]", "afterokarray:41[]"),
        ("afterokarray:41", "afterokarray:41[]"),
        ("afteranyarray:41[][5]", "afteranyarray:41[][5]"),
        ("afterok:41[]:41[7]", "afterok:41[],afterok:41[7]"),
    ],
)
def test_dependencies_name_arrays_and_parts(text: str, again: str) -> None:
    assert ",".join(map(str, parse_depend(text)[0])) == again


@pytest.mark.parametrize("text", ["afterokarray:41[7]", "afterok:41[][5]", "afterokarray:41[][0]", "afterok:41[0-9]", "on:41[]"])
def test_dependencies_on_arrays_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_depend(text)


READY, HELD, NEVER = Admission.READY, Admission.HELD, Admission.NEVER


@pytest.mark.parametrize(
    ("type", "count", "tally", "wanted"),
    [
        (Depend.AFTER_OK_ARRAY, 0, Tally(10, ended=10, ok=10), READY),
        (Depend.AFTER_OK_ARRAY, 0, Tally(10, ended=9, ok=9), HELD),
        (Depend.AFTER_OK_ARRAY, 0, Tally(10, ended=1, ok=0), NEVER),
        (Depend.AFTER_OK_ARRAY, 5, Tally(10, ended=10, ok=5), READY),
        (Depend.AFTER_OK_ARRAY, 5, Tally(10, ended=5, ok=0), HELD),
        (Depend.AFTER_OK_ARRAY, 5, Tally(10, ended=6, ok=0), NEVER),
        (Depend.AFTER_NOT_OK_ARRAY, 1, Tally(10, ended=1, ok=0), READY),
        (Depend.AFTER_NOT_OK_ARRAY, 1, Tally(10, ended=10, ok=10), NEVER),
        (Depend.AFTER_NOT_OK_ARRAY, 0, Tally(2, ended=1, ok=1), NEVER),
        (Depend.AFTER_ANY_ARRAY, 0, Tally(3, ended=3, ok=1), READY),
        (Depend.AFTER_ANY_ARRAY, 2, Tally(3, ended=1), HELD),
        (Depend.AFTER_START_ARRAY, 2, Tally(3, began=2), READY),
        (Depend.AFTER_START_ARRAY, 0, Tally(3, began=2), HELD),
        (Depend.AFTER_START_ARRAY, 0, Tally(3, began=2, ended=1, never_began=1), NEVER),
    ],
)
def test_what_counts_parts_is_met_waits_or_never_can_be(type: Depend, count: int, tally: Tally, wanted: Admission) -> None:
    verdict = admit(Applicant(links=(Link(type, "41[]", tally=tally, count=count),)), 0.0)
    assert verdict.admission is wanted and (not verdict.reason or "41[]" in verdict.reason)


def test_a_part_begins_when_both_it_and_its_array_may() -> None:
    ready, held, never = (Verdict(each, each.value) for each in (READY, HELD, NEVER))
    assert through(ready, ready) is ready and through(held, ready) is held and through(ready, held) is held
    assert through(never, held) is never and through(held, never) is never


def test_a_queue_counts_the_parts() -> None:
    queue, filling = Queue("q", max_queued=100, max_user_queued=50), Filling(queued=60, queued_of={"ann": 20})
    assert refusal(queue, Entry("ann", count=30), filling) == ""
    assert "31 more were asked, 50 are allowed" in refusal(queue, Entry("ann", count=31), filling)
    assert "41 more were asked, 100 are allowed" in refusal(queue, Entry("bob", count=41), filling)
