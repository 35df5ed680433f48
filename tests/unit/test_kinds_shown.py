"""The capability matrix before a request: by REST, on the command line, on the create form; and the same words in a refusal."""

from __future__ import annotations

import json

import pytest

from tests.cli_kit import Cloud, cloud
from tests.unit.test_api_v1 import refused
from tests.web import Web, web
from vmcloud.cli.main import main
from vmcloud.domain.kinds import KINDS, Support
from vmcloud.domain.vocabulary import Kind, Power, Verb

pytestmark = pytest.mark.unit
__all__ = ["cloud", "web"]


def test_every_kind_says_all_of_itself(web: Web) -> None:
    from vmcloud.api.schemas.kinds import KindPage

    found = web.call("GET", "/kinds").json()
    KindPage.model_validate(found)
    kinds = {each["kind"]: each for each in found["items"]}
    assert set(kinds) == {kind.value for kind in Kind} and found["items"][0]["driver"] and not found["items"][-1]["driver"]
    lxc = kinds["lxc"]
    assert (lxc["nodes"], lxc["nodes_up"], kinds["kvm"]["nodes"]) == (1, 1, 0)
    assert [each["power"] for each in lxc["powers"]] == [power.value for power in Power]
    assert all(each["why"] for kind in kinds.values() for each in kind["powers"] if each["support"] != "yes")
    assert "snapshot" in lxc["verbs"] and kinds["kvm"]["verbs"] == []
    assert lxc["limits"]["memory_mib"]["lowest"] == 8
    assert web.call("GET", "/kinds/lxc").json() == lxc
    problem = refused(web.call("GET", "/kinds/docker"), 404, "not-found", "kind")
    assert "openvz" in problem["todo"]
    refused(web.call("GET", "/kinds?x=1"), 400)
    assert web.call("GET", "/kinds?limit=1000").json() == found, "as the completion of names asks"
    refused(web.call("GET", "/kinds", token="wrong"), 401)


def test_a_verb_is_refused_in_the_words_of_the_matrix(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from vmcloud.domain.kinds import Capability

    why = "its root lies on a file system without snapshots"
    info = replace(KINDS[Kind.LXC], powers={Power.SNAPSHOT: Capability(Support.LATER, why)})
    monkeypatch.setitem(KINDS, Kind.LXC, info)
    web.ve("one")
    problem = refused(web.call("POST", "/ves/one/snapshots", {"name": "a"}), 422, "impossible", "verb")
    assert problem["what"] == "a VE of kind lxc cannot snapshot" and problem["why"] == why
    assert "vmcloud kind list" in problem["todo"]
    shown = web.call("GET", "/kinds/lxc").json()
    assert Verb.SNAPSHOT not in shown["verbs"] and next(p for p in shown["powers"] if p["power"] == "snapshot")["why"] == why


def test_the_create_form_shows_it_in_short(web: Web) -> None:
    from django.contrib.auth.models import User
    from django.test.client import Client

    client = Client()
    client.force_login(User.objects.get(username="admin"))
    page = client.get("/admin/fleet/ve/add/").content.decode()
    assert "lxc (1)" in page and "live-resize" in page and "CRIU must have" in page
    assert '<option value="kvm"' not in page


def test_the_command_line_shows_it(cloud: Cloud, web: Web, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = web.call("GET", "/kinds").json()
    cloud.answers["GET /kinds"] = kinds
    cloud.answers["GET /kinds/lxc"] = kinds["items"][0]
    assert main(["kind", "list"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:5] == ["KIND", "NODES", "CONSOLE", "BOOT-LOG", "EXEC"]
    row = dict(zip(lines[0], lines[1], strict=False))
    assert (row["KIND"], row["NODES"], row["SAVE"], row["SNAPSHOT"], row["MIGRATE"]) == ("lxc", "1", "node", "yes", "later")
    assert main(["kind", "list", "-o", "wide"]) == 0
    assert "8M..64T" in capsys.readouterr().out
    assert main(["kind", "list", "-o", "name"]) == 0
    assert capsys.readouterr().out.split() == [each["kind"] for each in kinds["items"]]
    assert main(["kind", "show", "lxc"]) == 0
    assert "CRIU must have" in capsys.readouterr().out
    assert main(["kind", "show", "lxc", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "lxc"
    assert main(["kind", "show", "docker"]) == 1
