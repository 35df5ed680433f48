"""Many writes of one transaction, made together at its end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web import Web, web

pytestmark = pytest.mark.unit
__all__ = ["web"]


def job(**fields: Any) -> Any:
    from vmcloud.fleet.models import Job

    return Job.objects.create(**{"owner": "ann", "verb": "start", "created_at": 1.0, **fields})


def test_outside_of_a_block_each_write_is_made_at_once(web: Web) -> None:
    from vmcloud.fleet import gather
    from vmcloud.fleet.models import Job, JobEvent

    made = job()
    gather.change(made, reason="said")
    gather.add(JobEvent(job=made, at=1.0, text="a word"))
    stored = Job.objects.get(pk=made.pk)
    assert (stored.reason, stored.version, stored.events.get().text) == ("said", 2, "a word")


def test_a_block_makes_one_statement_of_what_is_alike(web: Web) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from vmcloud.fleet import gather
    from vmcloud.fleet.models import Job, JobEvent

    made = [job() for _ in range(20)]
    with CaptureQueriesContext(connection) as queries, gather.gathering():
        for number, each in enumerate(made):
            gather.change(each, reason=f"reason {number}", result={"number": number})
            gather.change(each, state="R")
            gather.add(JobEvent(job=each, at=1.0, text=f"word {number}"))
        assert not Job.objects.exclude(reason="").exists()
    assert len([each for each in queries if not each["sql"].startswith("SELECT")]) == 2
    for number, stored in enumerate(Job.objects.order_by("id")):
        assert (stored.reason, stored.result, stored.state) == (f"reason {number}", {"number": number}, "R")
        assert (stored.version, stored.events.get().text) == (2, f"word {number}")


def test_an_exception_forgets_what_its_own_block_noted_and_nothing_else(web: Web) -> None:
    from vmcloud.fleet import gather
    from vmcloud.fleet.models import Job

    first, second = job(), job()
    with gather.gathering():
        gather.change(first, reason="stays")
        with pytest.raises(ZeroDivisionError), gather.gathering():
            gather.change(second, reason="goes")
            raise ZeroDivisionError
    assert list(Job.objects.order_by("id").values_list("reason", flat=True)) == ["stays", ""]


def test_an_inner_block_is_written_with_the_outer_one_and_its_word_is_the_later_one(web: Web) -> None:
    from vmcloud.fleet import gather
    from vmcloud.fleet.models import Job

    made = job()
    with gather.gathering():
        gather.change(made, reason="first", state="R")
        with gather.gathering():
            gather.change(Job.objects.get(pk=made.pk), reason="second")
        assert Job.objects.get(pk=made.pk).reason == ""
        gather.flush()
        assert Job.objects.get(pk=made.pk).reason == "second"
    stored = Job.objects.get(pk=made.pk)
    assert (stored.reason, stored.state, stored.version) == ("second", "R", 2)


def test_who_read_an_older_version_changes_nothing(web: Web) -> None:
    from django.db import transaction

    from vmcloud.fleet import gather
    from vmcloud.fleet.models import Job

    made, other = job(), job()
    stale = Job.objects.get(pk=made.pk)
    made.change(holds="u")
    with pytest.raises(gather.Clash), transaction.atomic():
        stale.change(state="R")
    with pytest.raises(gather.Clash), transaction.atomic(), gather.gathering():
        other.change(state="R")
        Job(pk=made.pk, owner="ann", verb="start", created_at=1.0, version=1).change(state="R")
    assert set(Job.objects.values_list("state", flat=True)) == {"Q"}
    assert Job.objects.get(pk=made.pk).holds == "u"


def test_a_row_that_was_written_goes_on_from_its_new_version(web: Web) -> None:
    from vmcloud.fleet import gather
    from vmcloud.fleet.models import Job

    made = job()
    with gather.gathering():
        made.change(reason="first")
        twin = Job.objects.get(pk=made.pk)
        twin.change(priority=3)
        assert (made.priority, twin.reason) == (3, "first")
    assert (made.version, twin.version) == (2, 2)
    twin.change(reason="second")
    assert Job.objects.get(pk=made.pk).version == 3
