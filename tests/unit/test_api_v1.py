"""The API's contract: what it answers, how it refuses, and that it leaves no trace of what it refused."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import pytest

from tests.web import Web, web

pytestmark = pytest.mark.unit
__all__ = ["web"]


def refused(response: Any, status: int, code: str = "", where: str = "") -> dict[str, Any]:
    """Check that ``response`` is a problem, and return it."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status and problem["type"].startswith("urn:vmcloud:problem:")
    assert problem["title"] and problem["detail"] and problem["what"]
    assert not code or problem["code"] == code
    assert not where or problem["where"] == where
    return problem


def nothing_left(web: Web) -> bool:
    """No job, no name in the directory, nobody woken."""
    from vmcloud.fleet.models import Job

    return not Job.objects.exists() and not web.directory.ves() and not web.broker.woken


# ------------------------------------------------------------------------------------------------------------- the good way


def test_create_is_a_job_that_can_be_followed(web: Web) -> None:
    response = web.call("POST", "/ves", {"name": "hello", "image": "busybox"})
    assert response.status_code == 202
    job = response.json()
    assert (job["verb"], job["ve_name"], job["state"], job["owner"]) == ("create", "hello", "Q", "admin")
    assert response["Location"] == f"/api/v1/jobs/{job['id']}"
    shown = web.client.get(response["Location"], headers={"Authorization": f"Bearer {web.token}"}).json()
    assert shown["steps"] == [] and shown["id"] == job["id"]
    events = web.call("GET", f"/jobs/{job['id']}/events").json()["items"]
    assert [event["text"] for event in events] == ["submitted by admin through api"]
    assert [record.name for record in web.directory.ves()] == ["hello"]


def test_what_only_the_record_shows_is_altered(web: Web) -> None:
    web.ve("one")
    job = web.call("POST", "/ves/one/alter", {"restart": "always", "description": "Sells."}).json()
    assert (job["verb"], job["args"]) == ("alter", {"restart": "always", "description": "Sells."})
    for wrong in ({}, {"vcpus": 2}, {"restart": "sometimes"}, {"description": "\x00"}, {"owner": "me"}):
        assert web.call("POST", "/ves/one/alter", wrong).status_code == 400, wrong


def test_a_ve_that_is_not_placed_yet_may_be_resized(web: Web) -> None:
    web.ve("web-1", node="", observed_state="")
    assert web.call("PATCH", "/ves/web-1", {"memory_mib": 64}).status_code == 202


def test_each_verb_makes_its_job(web: Web) -> None:
    web.ve("one")
    for verb in ("start", "stop", "restart", "suspend", "resume"):
        assert web.call("POST", f"/ves/one/{verb}").json()["verb"] == verb
    assert web.call("POST", "/ves/one/stop", {"force": True, "grace": 3}).json()["args"] == {"force": True, "grace": 3}
    assert web.call("PATCH", "/ves/one", {"vcpus": 2}).json()["verb"] == "resize"
    assert web.call("DELETE", "/ves/one").json()["verb"] == "delete"
    assert web.call("POST", "/nodes/node-1/cordon").json()["verb"] == "cordon"
    assert web.call("POST", "/nodes/node-1/uncordon").json()["verb"] == "uncordon"


def test_answers_match_their_description(web: Web) -> None:
    from vmcloud.api.schemas import accounts, images, jobs, nodes, queues, ves, webhooks
    from vmcloud.domain.vocabulary import EventType
    from vmcloud.fleet.services import events

    row = web.ve("one")
    web.call("POST", "/ves/one/stop")
    events.note(EventType.STATE, "crashed", at=1.0, row=row)
    hook = web.call("POST", "/webhooks", {"url": "https://example.org/hook"}).json()["id"]
    web.call("POST", f"/webhooks/{hook}/test")
    pairs = {
        "/ves": ves.VEPage,
        "/ves/one": ves.VEOut,
        f"/ves/{row.uuid}": ves.VEOut,
        "/nodes": nodes.NodePage,
        "/nodes/node-1": nodes.NodeOut,
        "/images": images.ImagePage,
        "/images/busybox": images.ImageOut,
        "/jobs": jobs.JobPage,
        "/jobs/1": jobs.JobFullOut,
        "/jobs/1/events": jobs.EventPage,
        "/events": jobs.HappeningPage,
        "/queues": queues.QueuePage,
        "/queues/main": queues.QueueOut,
        "/webhooks": webhooks.WebhookPage,
        f"/webhooks/{hook}": webhooks.WebhookOut,
        f"/webhooks/{hook}/deliveries": webhooks.DeliveryPage,
        "/whoami": accounts.WhoOut,
        "/healthz": accounts.HealthOut,
    }
    for path, schema in pairs.items():
        data = web.call("GET", path).json()
        schema.model_validate(data)
        assert set(data) == set(schema.model_fields), path
        for item in data.get("items", ()):
            known = schema.model_fields["items"].annotation.__args__[0].model_fields
            assert set(item) == set(known), path


def test_input_schemas_have_the_fields_the_domain_knows() -> None:
    from tests.web import _setup

    _setup()
    from vmcloud.api.schemas.requests import request_of
    from vmcloud.domain import verbs
    from vmcloud.domain.spec import LEASE, Spec

    known = {"name", "project", "power", "job", "lease"}
    assert set(request_of(verbs.of("create")).model_fields) == set(Spec.__dataclass_fields__) - set(LEASE) | known


def test_openapi_describes_every_path_and_the_docs_page_needs_no_other_host(web: Web) -> None:
    spec = web.call("GET", "/openapi.json", token="").json()
    assert {"/api/v1/ves", "/api/v1/ves/{ref}", "/api/v1/ves/{ref}/{verb}", "/api/v1/jobs/{ref}"} <= set(spec["paths"])
    create = spec["paths"]["/api/v1/ves"]["post"]
    assert create["requestBody"]["content"]["application/json"]["schema"]["required"] == ["name", "image"]
    assert "$ref" not in json.dumps(create["requestBody"])
    page = web.call("GET", "/docs", token="").content.decode()
    assert "swagger-ui-bundle.js" in page and "https://" not in page


def test_pages_neither_repeat_nor_skip(web: Web) -> None:
    for number in range(7):
        web.ve(f"ve-{number}", project="main" if number < 5 else "other")
    names, cursor = [], ""
    while True:
        data = web.call("GET", f"/ves?project=*&limit=3&cursor={cursor}").json()
        names += [item["name"] for item in data["items"]]
        cursor = data["next"]
        if cursor is None:
            break
    assert names == [f"ve-{number}" for number in range(7)]
    assert len(web.call("GET", "/ves").json()["items"]) == 5


def test_the_same_key_is_the_same_job(web: Web) -> None:
    body = {"name": "hello", "image": "busybox"}
    first = web.call("POST", "/ves", body, **{"Idempotency-Key": "k1"}).json()
    again = web.call("POST", "/ves", body, **{"Idempotency-Key": "k1"}).json()
    assert first["id"] == again["id"]
    other = {**body, "name": "other"}
    refused(web.call("POST", "/ves", other, **{"Idempotency-Key": "k1"}), 409, "key-reused", "Idempotency-Key")


def test_cancel_is_recorded_once(web: Web) -> None:
    web.ve("one")
    job = web.call("POST", "/ves/one/start").json()
    for _ in range(2):
        assert web.call("POST", f"/jobs/{job['id']}/cancel").json()["cancel_requested"] is True
    texts = [event["text"] for event in web.call("GET", f"/jobs/{job['id']}/events").json()["items"]]
    assert texts.count("cancel asked for by admin") == 1


def test_job_filters(web: Web) -> None:
    web.ve("one"), web.ve("two")
    web.call("POST", "/ves/one/start"), web.call("POST", "/ves/two/stop")
    assert [job["ve_name"] for job in web.call("GET", "/jobs").json()["items"]] == ["two", "one"]
    assert [job["ve_name"] for job in web.call("GET", "/jobs?ve=one&active=true&mine=true&state=Q").json()["items"]] == ["one"]
    assert web.call("GET", "/jobs?state=C&active=false").json()["items"] == []


def test_an_image_is_received_and_fetched_by_ticket_once(web: Web) -> None:
    from vmcloud.fleet.services import tickets

    content = b"not really a tar" * 100_000
    sha256 = hashlib.sha256(content).hexdigest()
    job = web.call("PUT", "/images/tiny?kind=lxc&description=small", content).json()
    assert (job["verb"], job["args"]["sha256"], job["args"]["size"]) == ("import", sha256, len(content))
    ticket = tickets.make("image", sha256, job=job["id"], node="node-1", now=time.time())
    response = web.call("GET", f"/blobs/{sha256}", token="", Authorization=f"Ticket {ticket}")
    assert b"".join(response.streaming_content) == content
    refused(web.call("GET", f"/blobs/{sha256}", token="", Authorization=f"Ticket {ticket}"), 403)
    refused(web.call("GET", f"/blobs/{sha256}", token=""), 401)
    refused(web.call("GET", f"/blobs/{sha256}"), 401)


# ------------------------------------------------------------------------------------------------------------ who may what


def test_login_gives_a_token_and_is_limited(web: Web) -> None:
    asked = {"username": "admin", "password": "secret-of-admin", "name": "laptop"}
    answer = web.call("POST", "/tokens", asked, token="")
    assert answer.status_code == 201
    assert web.call("GET", "/whoami", token=answer.json()["token"]).json() == {"username": "admin", "is_admin": True}
    for _ in range(9):
        refused(web.call("POST", "/tokens", {**asked, "password": "wrong"}, token=""), 401, "unauthenticated")
    response = web.call("POST", "/tokens", asked, token="")
    refused(response, 429, "too-many")
    assert 1 <= int(response["Retry-After"]) <= 61


def test_without_a_token_nothing_is_told(web: Web) -> None:
    for path in ("/ves", "/nodes", "/images", "/jobs", "/whoami", "/ves/one"):
        response = web.call("GET", path, token="")
        refused(response, 401, "unauthenticated", "Authorization")
        assert response["WWW-Authenticate"].startswith("Bearer")
    refused(web.call("GET", "/ves", token="vmc_wrong"), 401, "unauthenticated")
    assert web.call("GET", "/healthz", token="").json() == {"status": "ok"}


def test_people_see_and_touch_only_their_own(web: Web) -> None:
    web.ve("one")
    job = web.call("POST", "/ves/one/start").json()
    ann = web.user("ann")
    assert web.call("GET", "/ves", token=ann).json()["items"] == []
    refused(web.call("GET", "/ves/one", token=ann), 404)
    refused(web.call("DELETE", "/ves/one", token=ann), 404)
    refused(web.call("GET", f"/jobs/{job['id']}", token=ann), 404)
    refused(web.call("POST", "/nodes/node-1/cordon", token=ann), 403)
    refused(web.call("PUT", "/images/x", b"data", token=ann), 403)


# -------------------------------------------------------------------------------------------------------------- bad input


BAD_CREATES = [
    ({"name": "x", "image": "nope"}, 422, "image"),
    ({"name": "x", "image": "busybox", "memory_mib": 1 << 20}, 422, "spec"),
    ({"name": "x", "image": "busybox", "kind": "kvm"}, 422, "kind"),
    ({"name": "x", "image": "busybox", "kind": "vmware"}, 400, "kind"),
    ({"name": "../etc", "image": "busybox"}, 400, "name"),
    ({"name": "a;reboot", "image": "busybox"}, 400, "name"),
    ({"name": "x" * 51, "image": "busybox"}, 400, "name"),
    ({"name": "x", "image": "../../secrets"}, 400, "image"),
    ({"name": 7, "image": "busybox"}, 400, "name"),
    ({"name": "x"}, 400, "image"),
    ({"name": "x", "image": "busybox", "vcpus": "2"}, 400, "vcpus"),
    ({"name": "x", "image": "busybox", "vcpus": True}, 400, "vcpus"),
    ({"name": "x", "image": "busybox", "vcpus": 10**30}, 400, "vcpus"),
    ({"name": "x", "image": "busybox", "memory_mib": -1}, 400, "memory_mib"),
    ({"name": "x", "image": "busybox", "memory_mib": 1.5}, 400, "memory_mib"),
    ({"name": "x", "image": "busybox", "memroy": 64}, 400, "memroy"),
    ({"name": "x", "image": "busybox", "node": "nowhere"}, 404, "node"),
    ({"name": "x", "image": "busybox", "power": "absent"}, 400, "power"),
    ({"name": "x", "image": "busybox", "description": "a\u0000b"}, 400, "description"),
    ({"name": "x", "image": "busybox", "project": "no such"}, 400, "project"),
    ({"name": "x", "image": "busybox", "project": "elsewhere"}, 404, "project"),
]


@pytest.mark.parametrize(("body", "status", "where"), BAD_CREATES, ids=[json.dumps(each[0])[:60] for each in BAD_CREATES])
def test_a_bad_create_is_refused_at_its_field_and_leaves_nothing(web: Web, body: Any, status: int, where: str) -> None:
    refused(web.call("POST", "/ves", body), status, where=where)
    assert nothing_left(web)


BAD_BODIES = [
    b"",
    b"{",
    b"not json",
    b"[]",
    b"null",
    b'"text"',
    b"\xff\xfe",
    b'{"name": NaN}',
    b'{"name": "x", "name": "y"}',
    b'{"name": "x", "image": "busybox", "description": "\\ud800"}',
    b'{"vcpus": ' + b"9" * 5000 + b"}",
    b"[" * 100_000,
]


@pytest.mark.parametrize("raw", BAD_BODIES, ids=[repr(each[:30]) for each in BAD_BODIES])
def test_a_malformed_body_is_refused(web: Web, raw: bytes) -> None:
    refused(web.call("POST", "/ves", raw), 400)
    refused(web.call("PATCH", "/ves/none", raw), 400)
    refused(web.call("POST", "/tokens", raw, token=""), 400)
    assert nothing_left(web)


def test_a_large_body_is_refused(web: Web) -> None:
    refused(web.call("POST", "/ves", b" " * (2 << 20)), 413, "too-large")


def test_a_taken_name_is_refused_with_what_to_do(web: Web) -> None:
    web.ve("hello")
    problem = refused(web.call("POST", "/ves", {"name": "hello", "image": "busybox"}), 409, "name-taken", "name")
    assert "vmcloud ve show hello" in problem["todo"]
    assert nothing_left(web)


def test_a_name_taken_in_the_directory_only_leaves_no_job(web: Web) -> None:
    from vmcloud.fleet.models import Job

    web.call("POST", "/ves", {"name": "hello", "image": "busybox"})
    refused(web.call("POST", "/ves", {"name": "hello", "image": "busybox"}), 409, "name-taken")
    assert Job.objects.count() == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/ves/none", 404),
        ("POST", "/ves/none/start", 404),
        ("POST", "/ves/one/explode", 404),
        ("POST", "/ves/one/create", 404),
        ("DELETE", "/ves/..%2f..%2fetc", 404),
        ("GET", "/ves/%00", 404),
        ("GET", "/ves/a;b", 404),
        ("GET", "/jobs/0", 404),
        ("GET", "/jobs/99999999999999999999999999", 404),
        ("GET", "/jobs/x", 400),
        ("GET", "/jobs/-1", 404),
        ("POST", "/jobs/77/cancel", 404),
        ("GET", "/jobs/1?wait=soon", 400),
        ("GET", "/jobs/1?wait=nan", 400),
        ("GET", "/jobs/1?wait=inf", 400),
        ("GET", "/jobs/1?version=1e400", 400),
        ("GET", "/jobs?colour=red", 400),
        ("GET", "/jobs?active=perhaps", 400),
        ("GET", "/ves?limit=0", 400),
        ("GET", "/ves?limit=1001", 400),
        ("GET", "/ves?limit=many", 400),
        ("GET", "/ves?cursor=xyz", 400),
        ("GET", "/ves?cursor=WzFd", 400),
        ("GET", "/ves?cursor=%FF", 400),
        ("GET", "/jobs?cursor=WyJ4Il0", 400),
        ("GET", "/jobs?cursor=Wzk5OTk5OTk5OTk5OTk5OTk5OTk5OTld", 200),
        ("GET", "/ves?node=%00", 400),
        ("GET", "/ves?node=a&node=b", 400),
        ("GET", "/nodes?x=y", 400),
        ("GET", "/nodes/none", 404),
        ("POST", "/nodes/none/cordon", 404),
        ("POST", "/nodes/a%3Bb/cordon", 400),
        ("GET", "/images/none", 404),
        ("PUT", "/images/..%2fx", 404),
        ("PUT", "/images/UPPER", 400),
        ("PUT", "/images/empty", 400),
        ("PUT", "/images/tiny?kind=vmware", 400),
        ("PUT", "/images/tiny?flavour=x", 400),
        ("GET", "/nothing", 404),
        ("GET", "/", 404),
        ("GET", "/ves/", 404),
        ("PUT", "/ves", 405),
        ("DELETE", "/jobs/1", 405),
        ("PATCH", "/nodes/node-1/cordon", 405),
        ("GET", "/tokens", 405),
    ],
)
def test_bad_addresses_and_parameters_are_refused(web: Web, method: str, path: str, status: int) -> None:
    response = web.call(method, path)
    if status == 200:
        assert response.status_code == 200
    else:
        refused(response, status)
    assert nothing_left(web)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"force": "yes"}, "force"),
        ({"grace": "long"}, "grace"),
        ({"grace": -1}, "grace"),
        ({"grace": 1e9}, "grace"),
        ({"gracee": 1}, "gracee"),
    ],
)
def test_bad_arguments_of_stop_are_refused(web: Web, body: Any, where: str) -> None:
    web.ve("one")
    refused(web.call("POST", "/ves/one/stop", body), 400, where=where)
    assert nothing_left(web)


@pytest.mark.parametrize(
    ("body", "status"), [({}, 400), ({"name": "two"}, 400), ({"vcpus": 0}, 400), ({"memory_mib": 1 << 20}, 422)]
)
def test_a_bad_resize_is_refused(web: Web, body: Any, status: int) -> None:
    web.ve("one")
    refused(web.call("PATCH", "/ves/one", body), status)
    assert nothing_left(web)


def test_a_long_key_is_refused(web: Web) -> None:
    body = {"name": "hello", "image": "busybox"}
    refused(web.call("POST", "/ves", body, **{"Idempotency-Key": "k" * 300}), 400, where="Idempotency-Key")
    assert nothing_left(web)


def test_405_says_what_is_possible(web: Web) -> None:
    response = web.call("PUT", "/ves")
    assert "POST" in refused(response, 405, "method-not-allowed")["todo"] and "GET" in response["Allow"]


def test_a_directory_that_is_down_is_503_and_nothing_is_left(web: Web) -> None:
    from vmcloud.directory.errors import Unavailable

    web.directory.fail(Unavailable("the directory does not answer"))
    response = web.call("POST", "/ves", {"name": "hello", "image": "busybox"})
    refused(response, 503, "unavailable")
    assert response["Retry-After"]


def test_a_defect_of_ours_is_an_incident_without_traceback(
    web: Web, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from vmcloud.fleet.services import queries

    def broken(*args: Any) -> Any:
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setattr(queries, "nodes", broken)
    problem = refused(web.call("GET", "/nodes"), 500, "internal")
    assert "incident" in problem["why"] and "secret detail" not in json.dumps(problem)
    assert problem["why"] in caplog.text and "ZeroDivisionError" in caplog.text


def test_the_schema_of_a_queue_has_the_fields_the_domain_knows(web: Web) -> None:
    from vmcloud.api.schemas.jobs import TermsIn
    from vmcloud.api.schemas.queues import QueueIn
    from vmcloud.domain.queueing import Queue

    assert set(QueueIn.model_fields) == set(Queue.__dataclass_fields__)
    for field in TermsIn.model_fields:
        refused = web.call("POST", "/ves/none/stop", {"job": {field: object.__name__ * 99}}).json()
        assert refused["where"] == f"job.{field}", "each is known, and none takes this"


def test_queues_are_made_altered_and_removed(web: Web) -> None:
    made = web.call("POST", "/queues", {"name": "batch", "max_running": 2})
    assert made.status_code == 201 and made.json()["max_running"] == 2 and made["Location"] == "/api/v1/queues/batch"
    assert web.call("POST", "/queues", {"name": "batch"}).json()["code"] == "name-taken"
    assert web.call("PATCH", "/queues/batch", {"started": False}).json()["started"] is False
    web.ve("one")
    job = web.call("POST", "/ves/one/stop", {"job": {"queue": "batch", "hold": True}}).json()
    assert (job["queue"], job["state"]) == ("batch", "H")
    assert web.call("GET", "/queues/batch").json()["queued"] == 1
    assert web.call("DELETE", "/queues/batch").status_code == 409
    for wrong in ({"name": "x y"}, {"name": "x", "colour": 1}, {"name": "x", "routes": ["nowhere"]}, []):
        assert 400 <= web.call("POST", "/queues", wrong).status_code < 500
    assert [each["name"] for each in web.call("GET", "/queues").json()["items"]] == ["batch", "main"]
    assert web.call("DELETE", "/queues/main").status_code == 204


def test_many_requests_are_answered_one_by_one(web: Web) -> None:
    for name in ("one", "two"):
        web.ve(name)
    asked = [
        {"verb": "stop", "ve": "one", "args": {"force": True, "job": {"priority": 3}}, "key": "k-1"},
        {"verb": "stop", "ve": "nobody"},
        {"verb": "fly", "ve": "two"},
        {"verb": "start", "ve": "two", "colour": "red"},
        {"verb": "resize", "ve": "two", "args": {"vcpus": 2}},
        7,
        {"verb": "stop", "ve": "one", "args": {"force": True, "job": {"priority": 3}}, "key": "k-1"},
    ]
    items = web.call("POST", "/jobs", {"requests": asked}).json()["items"]
    assert [next(iter(each)) for each in items] == ["job", "problem", "problem", "problem", "job", "problem", "job"]
    assert items[0]["job"]["args"] == {"force": True, "grace": 10.0} and items[0]["job"]["priority"] == 3
    assert items[6]["job"]["id"] == items[0]["job"]["id"], "the same key is the same job"
    assert items[1]["problem"]["code"] == "not-found" and items[2]["problem"]["where"] == "requests[2].verb"
    assert web.broker.woken == ["jobs"]
    assert len(web.call("GET", "/jobs").json()["items"]) == 2
    for wrong in ({"requests": []}, {"requests": {}}, {}, {"requests": [{}] * 1001}, {"other": []}):
        assert web.call("POST", "/jobs", wrong).status_code == 400
