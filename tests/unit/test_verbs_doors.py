"""Every verb of the registry is offered by every door, or its module says why not: what a door offers is looked at, not told."""

from __future__ import annotations

import dataclasses
from itertools import product
from typing import Any

import click
import pytest

import tests.verbs as shown
from tests.admin_kit import admin
from tests.web import Web, web
from vmcloud.cli.main import cli
from vmcloud.cli.verbs import modules
from vmcloud.domain import foreign, verbs
from vmcloud.domain.errors import Invalid, VmcloudError
from vmcloud.domain.kinds import KINDS
from vmcloud.domain.spec import Spec
from vmcloud.domain.verbs import Verb
from vmcloud.domain.verbs.request import Nothing, Sort, fields_of, needed
from vmcloud.domain.vocabulary import Desired, Drift, Kind, Observed
from vmcloud.domain.wish import Wish

pytestmark = pytest.mark.unit
__all__ = ("admin", "web")
ALL = list(verbs.registry().values())
SAID: dict[Sort, Any] = {Sort.LABEL: "web-9", Sort.ARGUMENTS: ["true"]}
"""What is said of fields of which something must be."""


def offering(door: str) -> list[Verb]:
    """The verbs that a door has to offer."""
    return [each for each in ALL if door not in each.not_offered]


def least(verb: Verb) -> dict[str, Any]:
    """The shortest request for a verb."""
    return {name: SAID[about.sort] for name, (each, about) in verb.fields.items() if needed(each)}


def test_who_does_not_offer_a_verb_is_a_door_and_says_why() -> None:
    for verb in ALL:
        assert set(verb.not_offered) <= set(shown.DOORS), verb
        assert all(len(why) > 15 for why in verb.not_offered.values()), verb


@pytest.mark.parametrize("verb", offering("cli"), ids=str)
def test_the_command_line_has_it_and_its_command_parses(verb: Verb) -> None:
    context = click.Context(cli)
    command: Any = cli
    for word in shown.command_of(verb).split():
        command = command.get_command(context, word)
        assert command is not None, f"vmcloud {shown.command_of(verb)}"
    assert "Example" in (command.help or ""), "its help has an example"
    if not verb.own_way:
        operands = [word for value in least(verb).values() for word in (value if isinstance(value, list) else [value])]
        command.make_context(command.name, ["web-1", *operands])


def test_what_a_verb_is_called_is_its_modules_name() -> None:
    """The command line lists its commands by modules, without importing them."""
    for kind in ("ve", "node", "image"):
        assert set(modules(kind)) == {each.called for each in verbs.about(kind)}


@pytest.mark.parametrize("verb", offering("rest"), ids=str)
def test_openapi_has_its_address_fields_and_answers(web: Web, verb: Verb) -> None:
    method, address = shown.address_of(verb).split()
    operation = web.call("GET", "/openapi.json", token="").json()["paths"][f"/api/v1{address}"][method.lower()]
    if verb.name not in ("import", "reconcile"):
        assert {"200", "202", "400", "404", "409", "default"} <= set(operation["responses"])
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        described = content.get("properties", {})
        assert set(described) - {"job"} == set(verb.fields), "all of its fields are there"
        for name, (each, about) in verb.fields.items():
            assert about.words in described[name]["description"] and (name in content.get("required", ())) == needed(each)
    for status, answer in operation["responses"].items():
        if status >= "4":
            assert set(answer["content"]) == {"application/problem+json"}


@pytest.mark.parametrize("verb", [each for each in offering("rest") if not each.own_way and each.object != "cloud"], ids=str)
def test_rest_takes_its_shortest_request_to_the_verbs_own_check(web: Web, verb: Verb) -> None:
    """What is answered is the verb's word (a job, or a refusal of this VE as it is), and never that the request is none."""
    web.ve("web-1", kind="simulated", observed_state="running", node="node-1")
    name = {"ve": "web-1", "node": "node-1", "image": "busybox"}[verb.object]
    address = shown.address_of(verb).split()[1].replace("{ref}", name)
    asked = {"resize": {"vcpus": 1}, "alter": {"drift": "apply"}}.get(verb.name, least(verb))
    answer = web.call("POST", address, asked)
    assert answer.status_code in (202, 404, 409, 422), answer.content
    refused = web.call("POST", address, {**least(verb), "nonsense": 1})
    assert refused.status_code == 400 and refused.json()["where"] == "nonsense"


@pytest.mark.parametrize("verb", [each for each in offering("pages") if not each.own_way], ids=str)
def test_the_pages_have_its_button_or_form(web: Web, admin: Any, verb: Verb) -> None:
    if verb.object == "ve":
        fit = sorted(verb.fits)
        state = fit[0] if fit else Observed.STOPPED
        row = web.ve("web-1", observed_state=state, kind="simulated", snapshots=[{"name": "old", "job": 1, "at": 1.0}])
        start = f"/admin/fleet/ve/{row.pk}"
    else:
        start = f"/admin/fleet/{verb.object}/{ {'node': 'node-1', 'image': 'busybox'}[verb.object] }"
    if verb.name == "uncordon":
        from vmcloud.fleet.models import Node

        Node.objects.update(cordoned=True)
    text = admin.get(f"{start}/change/").content.decode()
    own = {"revert": "revert/old", "delete-snapshot": "delete-snapshot/old", "resize": "alter"}
    address = f"{start}/{own.get(verb.name, verb.called)}/"
    assert f'"{address}"' in text, f"no button leads to {address}"
    opened = admin.get(address)
    assert opened.status_code == 200 or (opened.status_code == 405 and not verb.words.confirm)


@pytest.mark.parametrize(("verb", "path"), [("create", "fleet/ve/"), ("adopt", "")])
def test_the_pages_have_a_way_of_their_own_to(web: Web, admin: Any, verb: str, path: str) -> None:
    """What is about nothing that has a page yet is offered where it is looked for."""
    from vmcloud.fleet.models import Stray

    if verb == "adopt":
        Stray.objects.bulk_create([Stray(key="x", node="node-1", native="old", kind="simulated", state="stopped")])
        path = "fleet/stray/x/change/"
    assert verbs.of(verb).own_way and verb in admin.get(f"/admin/{path}").content.decode().lower()


def test_the_directory_asks_for_it() -> None:
    spec = Spec.parse({"kind": "simulated", "image": "busybox"})
    shapes = [spec, dataclasses.replace(spec, vcpus=2), dataclasses.replace(spec, drift=Drift.APPLY)]
    wishes = [Wish(power, shape, "ann") for power, shape in product(Desired, shapes)]
    found = set()
    for before, after in product(wishes, wishes):
        try:
            found |= {demand.verb.value for demand in foreign.demands(before, after)}
        except VmcloudError:
            continue
    taken_up = {"create"}  # an added entry has no wish before it
    assert {each.name for each in offering("ldap")} == found | taken_up


@pytest.mark.parametrize("verb", ALL, ids=str)
def test_a_request_is_a_frozen_model_whose_fields_have_words_and_whose_defaults_are_values(verb: Verb) -> None:
    assert verb.request is Nothing or verb.request.__dataclass_params__.frozen  # type: ignore[attr-defined]
    for name, (each, about) in fields_of(verb.request).items():
        assert about.words.endswith("."), f"{verb}: {name}"
        if isinstance(each.default, str | int | float) and not isinstance(each.default, bool):
            assert about.check(each.default, name) == each.default
    if not verb.own_way:
        with pytest.raises(Invalid) as caught:
            verb.parse({**least(verb), "nonsense": 1})
        assert caught.value.problem.where == "nonsense"


def test_the_widest_limits_are_those_of_some_kind() -> None:
    for kind in Kind:
        info = KINDS[kind]
        for name in ("vcpus", "memory_mib", "disk_mib"):
            about = verbs.of("resize").fields[name][1]
            low, high = getattr(info, name)
            assert about.low is not None and about.high is not None and about.low <= low and high <= about.high


def test_the_page_of_verbs_is_the_registry() -> None:
    assert shown.PAGE.read_text() == shown.page(), f"docs/verbs.md is not current. Run: {shown.COMMAND}"
