"""The admin's forms about VEs: what they ask for, once, and how a refusal is said."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.admin_kit import FORM, admin, ann, jobs, words
from tests.web import Web, web

__all__ = ["admin", "ann", "web"]
pytestmark = pytest.mark.unit


def test_the_create_form_makes_a_job_and_a_second_sending_of_it_none(web: Web, admin: Any) -> None:
    assert '<option value="busybox" selected>' in words(admin, "fleet/ve/add/?image=busybox&node=nonsense")
    for _ in range(2):
        assert admin.post("/admin/fleet/ve/add/", FORM).status_code == 302
    assert jobs() == [("create", "web-2", "admin")]


@pytest.mark.parametrize(("field", "value", "said"), [("name", "a;b", "DNS label"), ("memory_mib", "999999", "MiB")])
def test_a_refusal_is_shown_in_words_beside_what_was_typed(
    web: Web,
    admin: Any,
    field: str,
    value: str,
    said: str,
) -> None:
    answer = admin.post("/admin/fleet/ve/add/", {**FORM, field: value, "description": "kept"})
    assert answer.status_code == 200
    text = answer.content.decode()
    assert said in text and f'value="{value}"' in text and "kept" in text
    assert jobs() == []


def test_the_change_form_says_whether_a_restart_is_needed(web: Web, admin: Any, monkeypatch: Any) -> None:
    from dataclasses import replace

    from vmcloud.domain.kinds import KINDS, Capability, Support
    from vmcloud.domain.vocabulary import Kind, Power

    path = f"fleet/ve/{web.ve('web-1').pk}/alter/"
    assert "No restart is needed" in words(admin, path)
    assert "had when it starts" in words(admin, f"fleet/ve/{web.ve('web-2', observed_state='stopped').pk}/alter/")
    cold = {Power.LIVE_RESIZE: Capability(Support.LATER, "its memory is fixed")}
    monkeypatch.setitem(KINDS, Kind.LXC, replace(KINDS[Kind.LXC], powers=cold))
    text = words(admin, path)
    assert "It needs a restart" in text and "its memory is fixed" in text


def test_the_change_form_asks_for_what_is_different_once_and_for_all_of_it_or_nothing(web: Web, admin: Any) -> None:
    row = web.ve("web-1")
    path = f"/admin/fleet/ve/{row.pk}/alter/"
    form = {"vcpus": 1, "memory_mib": 128, "restart": "on-failure", "drift": "report", "description": "", "key": "k"}
    assert "Nothing is different" in admin.post(path, form).content.decode()
    bad = admin.post(path, {**form, "memory_mib": 256, "description": "x" * 2000}).content.decode()
    assert "1000 are allowed" in bad and 'value="256"' in bad and jobs() == []
    for _ in range(2):
        assert admin.post(path, {**form, "memory_mib": 256, "restart": "never", "description": "Sells."}).status_code == 302
    assert jobs() == [("resize", "web-1", "admin"), ("alter", "web-1", "admin")]
    assert "MiB" in admin.post(path, {**form, "key": "other", "memory_mib": 999999}).content.decode()


def test_a_create_goes_to_the_queue_that_was_chosen_or_says_why_not(web: Web, admin: Any) -> None:
    from vmcloud.fleet.models import Job, QueueRow

    QueueRow.objects.create(name="small", data={"max_memory_mib": 32})
    said = admin.post("/admin/fleet/ve/add/", {**FORM, "queue": "small"}).content.decode()
    assert 'id="id_queue-wrong"' in said and jobs() == []
    QueueRow.objects.update(data={})
    admin.post("/admin/fleet/ve/add/", {**FORM, "queue": "small"})
    assert Job.objects.get().queue == "small"
    assert "web-2" in words(admin, "fleet/job/?queue=small")


def test_a_description_of_several_lines_comes_as_browsers_send_it(web: Web, admin: Any) -> None:
    from vmcloud.fleet.models import Job

    assert admin.post("/admin/fleet/ve/add/", {**FORM, "description": "one\r\ntwo"}).status_code == 302
    assert Job.objects.get().args["spec"]["description"] == "one\ntwo"


def test_snapshots_are_taken_and_taken_back(web: Web, admin: Any) -> None:
    row = web.ve("web-1", snapshots=[{"name": "old", "job": 1, "at": 1.0}])
    base = f"/admin/fleet/ve/{row.pk}"
    assert (
        "exists" in (said := admin.post(f"{base}/snapshot/", {"snapshot": "old", "key": "a"}).content.decode())
        or "already" in said
    )
    admin.post(f"{base}/snapshot/", {"snapshot": "new", "key": "b"})
    for verb in ("revert", "delete-snapshot"):
        assert "confirmed" in admin.get(f"{base}/{verb}/old/").content.decode()
        admin.post(f"{base}/{verb}/old/", {"confirmed": "yes", "key": verb})
    assert [verb for verb, _, _ in jobs()] == ["snapshot", "revert", "delete-snapshot"]


def test_stop_asks_first_and_then_makes_a_job_for_each(web: Web, admin: Any) -> None:
    rows = [web.ve("web-1"), web.ve("web-2"), web.ve("web-3", observed_state="stopped", desired="stopped")]
    chosen = {"action": "stop_action", "_selected_action": [str(row.pk) for row in rows]}
    asked = admin.post("/admin/fleet/ve/", chosen).content.decode()
    assert "Stop 2 VEs?" in asked and "it is stopped" in asked and jobs() == []
    for _ in range(2):
        admin.post("/admin/fleet/ve/", {**chosen, "confirmed": "yes", "key": "once"})
    assert jobs() == [("stop", "web-1", "admin"), ("stop", "web-2", "admin")]


def test_an_orphan_is_adopted_by_a_form(web: Web, admin: Any, ann: Any) -> None:
    from vmcloud.fleet.models import Stray

    row = {"node": "node-1", "kind": "lxc", "vcpus": 1}
    Stray.objects.bulk_create(
        [
            Stray(key="node-1/by_hand", native="by_hand", state="stopped", **row),
            Stray(key="node-1/at-work", native="at-work", state="running", memory_mib=64, **row),
        ]
    )
    page = re.search(r'href="/admin/(fleet/stray/[^"]+by_?5?F?hand[^"]*)"', words(admin, "fleet/stray/"))
    assert page, "a link to its page"
    adopt = page[1].replace("/change/", "/adopt/")
    assert f'href="/admin/{adopt}"' in words(admin, page[1])
    busy = words(admin, "fleet/stray/node-1_2Fat-work/change/")
    assert "adopted once it is stopped" in busy and 'adopt/"' not in busy
    form = {"name": "tamed", "project": "main", "restart": "never", "key": "k"}
    assert "has no limit" in words(admin, adopt)
    assert "This field is required" in admin.post(f"/admin/{adopt}", form).content.decode()
    for _ in range(2):
        assert admin.post(f"/admin/{adopt}", {**form, "memory_mib": 64}).status_code == 302
    assert jobs() == [("adopt", "tamed", "admin")]
    words(ann, adopt, 404)
    assert ann.post(f"/admin/{adopt}", {**form, "memory_mib": 64, "key": "other"}).status_code == 404
