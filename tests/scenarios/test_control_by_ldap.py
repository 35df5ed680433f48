"""Any LDAP tool is a control surface: what people write to the directory becomes jobs, or is undone and explained."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cloud import Cloud, cloud
from tests.ldap_tools import Tools, entry, jobs, refused, settled, show

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=2) as made:
        made.image()
        tools = Tools(made)
        tools.person("olga", "operators")
        tools.person("rita")
        tools.person("adam", "administrators")
        yield made


@pytest.fixture
def tools(running: Cloud) -> Tools:
    return Tools(running)


@pytest.fixture
def web(running: Cloud, request: pytest.FixtureRequest) -> Iterator[str]:
    """A running VE of this test's own; gone afterwards."""
    name = "ve-" + uuid.uuid4().hex[:8]
    running.wait(running.ask("POST", "/ves", {"name": name, "image": "busybox", "kind": "simulated", "memory_mib": 64}))
    yield name
    if name in running.ves():
        running.wait(running.ask("DELETE", f"/ves/{name}"))


def test_power_by_ldapmodify(running: Cloud, tools: Tools, web: str) -> None:
    before = show(running, web)["generation"]
    tools.modify(web, vmcDesiredState="stopped")
    [job] = settled(running, web, 1)
    assert (job["verb"], job["outcome"], job["owner"]) == ("stop", "ok", "root")
    shown = show(running, web)
    assert (shown["status"], shown["desired"], shown["job"]) == ("stopped", "stopped", job["id"])
    assert shown["generation"] > before and shown["observed_generation"] == shown["generation"]
    for wanted in ("running", "suspended", "running"):
        tools.modify(web, vmcDesiredState=wanted)
        running.until(lambda wanted=wanted: show(running, web)["observed"] == wanted, 10, f"it to be {wanted}")
    assert [each["verb"] for each in settled(running, web, 4)] == ["stop", "start", "suspend", "resume"]
    running.check_truths()


def test_size_and_power_by_ldapvi(running: Cloud, tools: Tools, web: str) -> None:
    tools.vi(web, vmcMemoryMiB="96", vmcDesiredState="stopped")
    resize, stop = settled(running, web, 2)
    assert (resize["verb"], resize["args"]) == ("resize", {"size": {"memory_mib": 96}})
    assert (stop["verb"], stop["outcome"], resize["outcome"]) == ("stop", "ok", "ok")
    shown = show(running, web)
    assert (shown["memory_mib"], shown["observed"]) == (96, "stopped")
    running.check_truths()


def test_deletion_by_wanting_it_absent(running: Cloud, tools: Tools, web: str) -> None:
    tools.modify(web, vmcDesiredState="absent", vmcMemoryMiB="99")
    [job] = settled(running, web, 1)
    assert (job["verb"], job["outcome"]) == ("delete", "ok")
    running.check_truths()
    assert web not in running.ves()


# ------------------------------------------------------------------------------------------------------------------- refused

IMPOSSIBLE = {
    "less than no memory": ({"vmcMemoryMiB": "-5"}, "-5 is out of range"),
    "more processors than its kind may have": ({"vmcVCPUs": "70000"}, "70000 is out of range"),
    "more memory than its node has": ({"vmcMemoryMiB": "9999999"}, "its node could never hold this size"),
    "a number of 5000 digits": ({"vmcMemoryMiB": "9" * 5000}, "has more than 15 digits"),
    "another image": ({"vmcImageName": "no-such"}, "the image can not be changed"),
    "another node": ({"vmcRequestedNode": "n-002"}, "the node that was asked for can not be changed"),
    "privileges": ({"vmcPrivileged": "TRUE"}, "whether it is privileged can not be changed"),
    "a login with markup": ({"vmcOwner": "<script>alert(1)</script>"}, "is no login"),
    "a description that is pages long": ({"description": "x" * 2000}, "2000 characters, 1000 are allowed"),
    "a good wish beside a bad one": ({"vmcDesiredState": "stopped", "vmcDiskMiB": "-1"}, "-1 is out of range"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_can_not_be_is_undone_and_explained(running: Cloud, tools: Tools, web: str, case: str) -> None:
    values, why = IMPOSSIBLE[case]
    before = running.directory().ve_named("main", web)
    assert before is not None
    tools.modify(web, **values)
    assert why in refused(running, web)
    after = running.directory().ve_named("main", web)
    assert after is not None
    assert (after.desired, after.spec, after.owner) == (before.desired, before.spec, before.owner)
    assert after.refusal.startswith("root: ") and why in after.refusal and after.generation == before.generation + 1
    [job] = settled(running, web, 1)
    assert (job["id"], job["outcome"], job["owner"]) == (after.job, "failed", "root")
    assert why in job["error"]["what"] or why in str(job["error"])
    told = [each for each in running.ask("GET", f"/events?ve={web}")["items"] if each["type"] == "refused"]
    assert len(told) == 1 and why in told[0]["text"]
    assert show(running, web)["status"] == "running"
    tools.modify(web, vmcDesiredState="stopped")
    running.until(lambda: show(running, web)["observed"] == "stopped", 10, "it to stop")
    assert show(running, web)["refusal"] == "", "the next accepted change takes the refusal away"
    running.check_truths()


@pytest.mark.parametrize(
    "values",
    [
        {"vmcDesiredState": "destroyed"},
        {"vmcDesiredState": "Running; rm -rf /"},
        {"vmcMemoryMiB": "lots"},
        {"vmcMemoryMiB": "64.5"},
        {"vmcImageName": "../../etc/passwd"},
        {"vmcRestartPolicy": "maybe"},
        {"vmcPrivileged": "yes"},
        {"vmcKind": "kvm"},
        {"vmcUUID": str(uuid.uuid4())},
        {"vmcProject": "other"},
        {"vmcGeneration": "99"},
        {"vmcJob": "1"},
        {"vmcNodeName": "n-002"},
        {"vmcRefusal": ""},
        {"vmcObservedState": "stopped"},
        {"vmcDesiredState": None},
    ],
    ids=lambda values: "-".join(f"{name}={value}" for name, value in values.items()),
)
def test_what_the_directory_itself_refuses(running: Cloud, tools: Tools, web: str, values: dict[str, str | None]) -> None:
    before = running.directory().ve_named("main", web)
    assert tools.modify(web, check=False, **values) != 0
    after = running.directory().ve_named("main", web)
    assert before is not None and after is not None and after.version == before.version


def test_a_rename_is_refused_by_the_directory(running: Cloud, tools: Tools, web: str) -> None:
    for rdn, options in (("cn=other", ["-r"]), ("cn=other", []), (f"cn={web}", ["-r", "-s", tools.tree.unit("ves")])):
        done = tools.run("ldapmodrdn", *options, tools.dn(web), rdn, check=False)
        assert done.returncode != 0
    assert running.directory().ve_named("main", web) is not None


def test_rights(running: Cloud, tools: Tools, web: str) -> None:
    """An operator switches power, and nothing else; who is in no group, nothing; an administrator, everything."""
    assert tools.modify(web, "rita", vmcDesiredState="stopped", check=False) == 50
    assert tools.modify(web, "olga", vmcMemoryMiB="96", check=False) == 50
    tools.modify(web, "olga", vmcDesiredState="stopped")
    [stop] = settled(running, web, 1)
    assert (stop["verb"], stop["owner"], stop["outcome"]) == ("stop", "olga", "ok")
    tools.modify(web, "olga", vmcDesiredState="absent")
    assert "olga: olga may not delete this VE: an administrator or its owner may" in refused(running, web)
    assert show(running, web)["desired"] == "stopped"
    tools.modify(web, "adam", vmcOwner="rita")
    running.until(lambda: show(running, web)["owner"] == "rita", 10, "it to be rita's")
    settled(running, web, 3)
    tools.modify(web, "rita", vmcDesiredState="running", vmcMemoryMiB="80", description="mine")
    assert [(each["verb"], each["owner"]) for each in settled(running, web, 6)[3:]] == [
        ("alter", "rita"),
        ("resize", "rita"),
        ("start", "rita"),
    ]
    assert tools.modify(web, "rita", vmcOwner="adam", check=False) == 50
    shown = show(running, web)
    assert (shown["memory_mib"], shown["observed"], shown["description"]) == (80, "running", "mine")
    running.check_truths()


def test_two_people_at_once_are_judged_each(running: Cloud, tools: Tools, web: str) -> None:
    """While nobody looks, an operator wants it absent and an administrator larger: the one is undone, the other done."""
    with running.frozen("server"):
        tools.modify(web, "olga", vmcDesiredState="absent")
        tools.modify(web, "adam", vmcMemoryMiB="96")
    found = settled(running, web, 2)
    assert sorted((each["verb"], each["owner"], each["outcome"]) for each in found) == [
        ("delete", "olga", "failed"),
        ("resize", "adam", "ok"),
    ]
    shown = show(running, web)
    assert (shown["status"], shown["memory_mib"]) == ("running", 96) and "olga may not delete" in shown["refusal"]
    running.check_truths()


def test_what_is_changed_back_between_two_looks_is_no_job(running: Cloud, tools: Tools, web: str) -> None:
    with running.frozen("server"):
        tools.modify(web, vmcDesiredState="stopped")
        tools.modify(web, vmcDesiredState="running")
    tools.modify(web, description="a mark")
    [mark] = settled(running, web, 1)
    assert mark["verb"] == "alter"


def test_a_suspended_guest_is_not_made_of_a_stopped_one(running: Cloud, tools: Tools, web: str) -> None:
    running.wait(running.ask("POST", f"/ves/{web}/stop", {}))
    tools.modify(web, vmcDesiredState="suspended")
    assert "a stopped VE can not be made suspended" in refused(running, web)
    running.check_truths()


# ------------------------------------------------------------------------------------------------- beside jobs, and in absence


def test_a_change_while_a_job_is_under_way_comes_after_it(running: Cloud, tools: Tools, web: str) -> None:
    with running.frozen("worker"):
        first = running.ask("PATCH", f"/ves/{web}", {"memory_mib": 80})
        running.until(lambda: running.job(first["id"])["state"] == "R", 10, "the resize to be sent")
        tools.modify(web, vmcDesiredState="stopped")
        [stop] = running.until(lambda: jobs(running, web), 10, "the stop to be queued")
        assert (stop["verb"], stop["state"]) == ("stop", "Q")
        running.until(lambda: show(running, web)["job"] == stop["id"], 10, "it to be taken up at once")
        assert show(running, web)["desired"] == "stopped", "and it waits for its turn"
    assert running.wait(first)["outcome"] == "ok"
    assert settled(running, web, 1)[0]["outcome"] == "ok"
    shown = show(running, web)
    assert (shown["observed"], shown["memory_mib"]) == ("stopped", 80)
    running.check_truths()


def test_what_was_written_while_no_server_ran_is_found_by_the_next(running: Cloud, tools: Tools, web: str) -> None:
    other = "ve-" + uuid.uuid4().hex[:8]
    running.wait(running.ask("POST", "/ves", {"name": other, "image": "busybox", "kind": "simulated"}))
    server = running.parts()["server"]["pid"]
    with running.frozen("server"):
        tools.modify(web, vmcDesiredState="stopped", vmcMemoryMiB="72")
        tools.modify(other, vmcImageName="windows")
        os.kill(server, signal.SIGKILL)
    assert [each["verb"] for each in settled(running, web, 2)] == ["resize", "stop"]
    assert "the image can not be changed" in refused(running, other)
    running.wait(running.ask("DELETE", f"/ves/{other}"))
    running.check_truths()


# --------------------------------------------------------------------------------------------------------- added and removed


def test_an_entry_added_by_hand_is_a_create(running: Cloud, tools: Tools) -> None:
    tools.run("ldapadd", person="adam", stdin=entry(tools, "added"))
    [create] = settled(running, "added", 1)
    assert (create["verb"], create["owner"], create["outcome"]) == ("create", "adam", "ok")
    shown = show(running, "added")
    assert (shown["status"], shown["memory_mib"], shown["owner"]) == ("running", 48, "adam")
    running.check_truths()
    running.wait(running.ask("DELETE", "/ves/added"))


ADDITIONS = {
    "an image that there is not": ({"vmcImageName": "no-such"}, "no image is called 'no-such'"),
    "too much": ({"vmcMemoryMiB": "9999999"}, "no node could ever run this VE"),
    "less than nothing": ({"vmcMemoryMiB": "-1"}, "-1 is out of range"),
    "nothing to be": ({"vmcDesiredState": "absent"}, "cannot be created absent"),
    "a number that can not be read": ({"vmcVCPUs": "1" * 40}, "more than 9 digits"),
}


@pytest.mark.parametrize("case", ADDITIONS)
def test_an_addition_that_can_not_be_says_so_and_stays(running: Cloud, tools: Tools, case: str) -> None:
    values, why = ADDITIONS[case]
    name = "ve-" + uuid.uuid4().hex[:8]
    tools.run("ldapadd", stdin=entry(tools, name, **values))
    asked = ("ldapsearch", "-LLL", "-o", "ldif-wrap=no", "-b", tools.dn(name), "vmcRefusal", "vmcGeneration")
    said = running.until(lambda: "vmcRefusal" in (text := tools.run(*asked).stdout) and text, 10, "a refusal")
    assert why in said and "vmcGeneration" not in said
    assert jobs(running, name) == []
    tools.run("ldapmodify", stdin="\n".join([f"dn: {tools.dn(name)}", "changetype: modify", *corrected(values)]) + "\n")
    assert [(each["verb"], each["outcome"]) for each in settled(running, name, 1)] == [("create", "ok")], "corrected, it is one"
    running.wait(running.ask("DELETE", f"/ves/{name}"))
    running.check_truths()


def corrected(values: dict[str, str]) -> list[str]:
    good = {"vmcImageName": "busybox", "vmcMemoryMiB": "48", "vmcDesiredState": "stopped", "vmcVCPUs": "1"}
    return [line for name in values for line in (f"replace: {name}", f"{name}: {good[name]}", "-")]


def test_an_entry_deleted_by_hand_leaves_its_guest_alone(running: Cloud, tools: Tools, web: str) -> None:
    """It is told who did it and what to do; the guest runs on as an orphan; an entry with its UUID is not taken for a new VE."""
    ve, node = show(running, web)["id"], show(running, web)["node"]
    native = f"{web}-{ve[:8]}"
    tools.run("ldapdelete", tools.dn(web), person="adam")

    def told() -> list[dict[str, Any]]:
        return [each for each in running.ask("GET", f"/events?ve={ve}")["items"] if each["type"] == "removed"]

    running.until(told, 10, "the removal to be told")
    [event] = told()
    assert "deleted from the directory by adam" in event["text"] and node in event["text"] and f"vmcUUID {ve}" in event["text"]
    stray = running.until(lambda: running.directory().strays(), 20, "the guest to be seen as an orphan")
    assert [(each.seen.native, str(each.seen.ve), each.seen.state) for each in stray] == [(native, ve, "running")]
    assert running.simulated_guests()[native] == (node, "running")
    tools.run("ldapadd", stdin=entry(tools, "again", vmcUUID=ve))
    asked = ("ldapsearch", "-LLL", "-o", "ldif-wrap=no", "-b", tools.dn("again"), "vmcRefusal")
    said = running.until(lambda: "vmcRefusal" in (text := tools.run(*asked).stdout) and text, 10, "a refusal")
    assert "this UUID is taken" in said and native in said
    tools.run("ldapdelete", tools.dn("again"))
    assert len(told()) == 1
    tools.run("ldapadd", person="adam", stdin=entry(tools, web, vmcUUID=ve, vmcMemoryMiB="64"))
    running.until(lambda: web in running.ves() and running.ves()[web]["observed"], 20, "it to be a VE again")
    shown = show(running, web)
    assert (shown["id"], shown["node"], shown["status"], shown["owner"]) == (ve, node, "running", "adam")
    assert running.wait(running.ask("POST", f"/ves/{web}/stop", {}))["outcome"] == "ok", "its node takes its steps"
    running.check_truths()


def test_an_entry_out_of_a_backup_counts_again(running: Cloud, tools: Tools, web: str) -> None:
    """Its generation is older than what was accepted since, and older than its node knows."""
    for verb in ("stop", "start", "stop", "start"):
        running.wait(running.ask("POST", f"/ves/{web}/{verb}", {}))
    before = running.directory().ve_named("main", web)
    assert before is not None
    backup = {"vmcGeneration": [b"2"], "vmcDesiredState": [b"stopped"], "vmcMemoryMiB": [b"64"]}
    running.directory().client.modify(tools.dn(web), backup, "(objectClass=vmcVE)")
    running.until(lambda: show(running, web)["generation"] > before.generation, 10, "a generation that nodes take")
    shown = show(running, web)
    assert (shown["desired"], shown["status"], shown["reason"]) == ("stopped", "running", "wanted stopped, seen running")
    assert running.wait(running.ask("POST", f"/ves/{web}/stop", {}))["outcome"] == "ok"
    tools.modify(web, vmcDesiredState="running")
    assert settled(running, web, 2)[-1]["verb"] == "start"
    running.check_truths()


def test_a_node_is_cordoned_by_ldap(running: Cloud, tools: Tools) -> None:
    def switch(attribute: str, value: str) -> None:
        lines = [f"dn: {tools.tree.node('n-001')}", "changetype: modify", f"replace: {attribute}", f"{attribute}: {value}"]
        tools.run("ldapmodify", person="olga", stdin="\n".join(lines) + "\n")

    for attribute, name in (("vmcCordoned", "cordoned"), ("vmcMaintenance", "maintenance")):
        for value in (True, False):
            switch(attribute, str(value).upper())
            running.until(lambda n=name, v=value: running.ask("GET", "/nodes/n-001")[n] is v, 10, f"{name} to be {value}")
