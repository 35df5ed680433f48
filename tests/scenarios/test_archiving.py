"""Jobs go to the archive while others run and the server is killed amidst it: each is in exactly one place, and found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cloud import Cloud, cloud

pytestmark = [pytest.mark.scenario, pytest.mark.engine, pytest.mark.timeout(180)]
A_SECOND = 1 / 86400
KILLS = 2


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=2, more=f"[keep]\njobs_days = {A_SECOND}") as made:
        made.image()
        for name in ("one", "two"):
            made.wait(made.ask("POST", "/ves", {"name": name, "image": "busybox", "kind": "simulated", "memory_mib": 64}))
        yield made


def places(running: Cloud) -> dict[int, int]:
    """In how many places each job is."""
    found: dict[int, int] = {}
    for table in ("fleet_job", "fleet_archivedjob"):
        for (number,) in running.sql(f"SELECT id FROM {table}"):
            found[number] = found.get(number, 0) + 1
    return found


def test_a_job_is_in_one_place_whenever_the_server_dies(running: Cloud) -> None:
    taken = []
    for _ in range(KILLS):
        running.break_at("server.archive.written")
        for _ in range(5):
            taken += [running.ask("POST", f"/ves/{name}/restart", {"force": True})["id"] for name in ("one", "two")]
        running.until(lambda: running.broke_at("server.archive.written"), 30, "the server to die while it archives")
        assert set(places(running).values()) == {1}
    assert {running.wait(number, 60)["outcome"] for number in taken} == {"ok"}
    kept = {running.ves()[name]["job"] for name in ("one", "two")}
    running.until(lambda: {row[0] for row in running.sql("SELECT id FROM fleet_job")} == kept, 30, "all others to be archived")
    assert set(places(running)) >= set(taken) and set(places(running).values()) == {1}
    for table, column in (("fleet_step", "job_id"), ("fleet_jobevent", "job_id")):
        assert {row[0] for row in running.sql(f"SELECT DISTINCT {column} FROM {table}")} <= kept, "nothing is left of them"
    first = min(taken)
    assert f'"id": {first}' in running.run("job", "show", str(first), "-o", "json").stdout
    assert "complete: ok" in running.run("job", "logs", str(first)).stdout
    listed = running.run("job", "list", "--archived", "--verb", "restart", "-o", "name").stdout.split()
    assert sorted(map(int, listed)) == sorted(set(taken) - kept)
    running.check_truths()
