"""Orphans through the API: who sees them, and what adopting one refuses at once without leaving a trace."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.unit.test_api_v1 import nothing_left, refused
from tests.web import Web, web

pytestmark = pytest.mark.unit
__all__ = ["web"]

ADOPT = "/strays/node-1/Old.web/adopt"


def stray(native: str = "Old.web", **fields: Any) -> Any:
    from vmcloud.fleet.models import Stray

    row = {"kind": "lxc", "state": "stopped", "ve": None, "vcpus": 1, "memory_mib": 64, "node": "node-1", **fields}
    return Stray.objects.bulk_create([Stray(key=f"{row['node']}/{native}", native=native, **row)])[0]


def test_orphans_are_listed_with_their_shape_and_match_their_description(web: Web) -> None:
    from vmcloud.api.schemas import nodes
    from vmcloud.fleet.models import Tombstone

    stray(addresses=["10.0.3.5"], mac="02:00:00:00:00:01", since=12.0)
    placed = web.ve("web-1", node="node-2")
    stray("copy", ve=placed.uuid)
    buried = uuid4()
    Tombstone.objects.bulk_create([Tombstone(ve=buried, name="old", project="main", at=1.0)])
    stray("late", ve=buried)
    stray("unknown", ve=uuid4())
    page = web.call("GET", "/strays").json()
    nodes.StrayPage.model_validate(page)
    found = {each["native"]: each for each in page["items"]}
    assert set(found["Old.web"]) == set(nodes.StrayOut.model_fields)
    assert {native: each["status"] for native, each in found.items()} == {
        "Old.web": "orphan",
        "copy": "duplicate",
        "late": "deleting",
        "unknown": "orphan",
    }
    assert (found["Old.web"]["memory_mib"], found["Old.web"]["addresses"]) == (64, ["10.0.3.5"])
    assert web.call("GET", "/strays/node-1/Old.web").json() == found["Old.web"]
    assert web.call("GET", "/strays?node=node-2").json()["items"] == []
    refused(web.call("GET", "/strays?colour=red"), 400, where="colour")
    refused(web.call("GET", "/strays/node-1/nobody"), 404, where="stray")


def test_only_administrators_see_or_adopt_orphans(web: Web) -> None:
    stray()
    ann = web.user("ann")
    for method, path in (("GET", "/strays"), ("GET", "/strays/node-1/Old.web"), ("POST", ADOPT)):
        refused(web.call(method, path, {"name": "mine"} if method == "POST" else None, token=ann), 403)
    assert nothing_left(web)


def test_to_adopt_is_a_job_that_has_claimed_the_name(web: Web) -> None:
    stray()
    web.user("ann")
    response = web.call("POST", ADOPT, {"name": "web-9", "owner": "ann", "restart": "always", "vcpus": 2})
    assert response.status_code == 202
    job = response.json()
    assert (job["verb"], job["ve_name"], job["node"], job["owner"]) == ("adopt", "web-9", "node-1", "admin")
    (record,) = web.directory.ves()
    assert (record.name, record.owner, record.desired, record.node) == ("web-9", "ann", "stopped", "")
    spec = record.spec
    assert (spec.image, spec.vcpus, spec.memory_mib, spec.restart) == ("adopted", 2, 64, "always")
    refused(web.call("POST", ADOPT, {"name": "web-10"}), 409, where="stray")


def test_the_same_request_under_the_same_key_is_one_job(web: Web) -> None:
    stray()
    first, second = (web.call("POST", ADOPT, {"name": "web-9"}, **{"Idempotency-Key": "k"}).json() for _ in range(2))
    assert first["id"] == second["id"]
    refused(web.call("POST", ADOPT, {"name": "web-9", "vcpus": 2}, **{"Idempotency-Key": "k"}), 409, "key-reused")


@pytest.mark.parametrize(
    ("is_", "asked", "status", "where"),
    [
        ({}, {}, 400, "name"),
        ({}, {"name": "Not A Name"}, 400, "name"),
        ({}, {"name": "web-9", "image": "busybox"}, 400, "image"),
        ({}, {"name": "web-9", "memory_mib": "1G"}, 400, "memory_mib"),
        ({}, {"name": "web-9", "memory_mib": 1}, 400, "memory_mib"),
        ({}, {"name": "web-9", "vcpus": True}, 400, "vcpus"),
        ({}, {"name": "web-9", "owner": ["ann"]}, 400, "owner"),
        ({}, {"name": "web-9", "owner": "nobody"}, 404, "owner"),
        ({}, {"name": "web-9", "project": "nowhere"}, 404, "project"),
        ({}, {"name": "taken"}, 409, "name"),
        ({"memory_mib": 0}, {"name": "web-9"}, 400, "memory_mib"),
        ({"state": "running"}, {"name": "web-9"}, 409, "stray"),
        ({"state": "suspended"}, {"name": "web-9"}, 409, "stray"),
        ({"state": "unknown"}, {"name": "web-9"}, 409, "stray"),
        ({"ve": uuid4()}, {"name": "web-9"}, 409, "stray"),
    ],
)
def test_what_can_not_be_adopted_is_refused_at_once(
    web: Web, is_: dict[str, Any], asked: dict[str, Any], status: int, where: str
) -> None:
    stray(**is_)
    web.ve("taken")
    refused(web.call("POST", ADOPT, asked), status, where=where)
    assert nothing_left(web)


def test_input_schemas_have_the_fields_the_domain_knows(web: Web) -> None:
    from vmcloud.api.schemas.requests import request_of
    from vmcloud.domain import verbs
    from vmcloud.domain.spec import AdoptRequest

    assert set(request_of(verbs.of("adopt")).model_fields) == set(AdoptRequest.__dataclass_fields__)


def test_a_ve_is_not_adopted_once_more(web: Web) -> None:
    web.ve("web-1")
    refused(web.call("POST", "/ves/web-1/adopt"), 404, where="verb")
