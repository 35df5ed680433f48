"""The admin's lists with 10,000 VEs: what a browser waits for, through the real web part."""

from __future__ import annotations

import http.client
import http.cookies
import os
import re
import subprocess
import sys
import time
from urllib.parse import urlencode, urlsplit

from tests.cloud import SOURCE, Cloud

from .measure import Report, Wishes
from .scene import scene

PAGES = {
    "VEs: the first page of 50": "fleet/ve/",
    "VEs: page 100": "fleet/ve/?p=100",
    "VEs: sorted by memory": "fleet/ve/?o=-4",
    "VEs: a search": "fleet/ve/?q=many-0999",
    "VEs: those of one status": "fleet/ve/?status=stopped",
    "VEs: those of one node": "fleet/ve/?node=node-007",
    "one VE": "fleet/ve/{ve}/change/",
    "now": "",
    "jobs": "fleet/job/",
    "nodes": "fleet/node/",
}
FILL = """
import time, uuid
VES, NODES, JOBS = {sizes}
from vmcloud.domain.spec import Spec
from vmcloud.fleet.models import VE, Job, Liveness, Node
now = time.time()
names = [f"node-{{number:03}}" for number in range(NODES)]
Node.objects.bulk_create([Node(name=name, kinds=["simulated"], cpus=64, memory_mib=262144) for name in names])
Liveness.objects.bulk_create([Liveness(node=name, heard_at=now + 1e6) for name in names])
spec = Spec.parse({{"kind": "simulated", "image": "busybox"}}).to_json()
def ve(number):
    wanted = "running" if number % 10 else "stopped"
    return VE(
        uuid=uuid.uuid4(), name=f"many-{{number:05}}", project="main", owner=f"owner-{{number % 20}}", kind="simulated",
        node=names[number % NODES], desired=wanted, generation=1, spec=spec, image="busybox", vcpus=1 + number % 4,
        memory_mib=64 << number % 6, observed_state=wanted if number % 97 else "crashed", since=now - number,
        addresses=[f"10.{{number >> 16}}.{{number >> 8 & 255}}.{{number & 255}}"], mac="02:00:00:00:00:01",
    )
rows = VE.objects.bulk_create([ve(number) for number in range(VES)], batch_size=500)
ended = {{"state": "C", "outcome": "ok", "created_at": now, "ended_at": now, "settled": True, "owner": "admin"}}
Job.objects.bulk_create(
    [Job(verb="create", ve=rows[n % VES].uuid, ve_name=rows[n % VES].name, **ended) for n in range(JOBS)], batch_size=500
)
print(rows[0].uuid)
"""
"""Rows as the watch would write them; ``sizes``: how many VEs, nodes, jobs. The read model forgets what the
directory does not hold only when it is made anew."""


def run(report: Report, wishes: Wishes) -> None:
    """Each page over one kept connection, one request at a time."""
    ves, nodes, jobs = many = wishes.size((10_000, 50, 20_000), (5_100, 10, 200))
    with scene(simulate=2) as made:
        ve = _manage(made.cloud, "shell", "-c", FILL.format(sizes=many)).split()[-1]
        browser, sizes = Browser(made.cloud), dict[str, int]()
        for number in range(-2, wishes.repetitions(30)):
            for name, path in PAGES.items():
                began = time.monotonic()
                size = browser.get(f"/admin/{path.format(ve=ve)}")
                seconds = time.monotonic() - began
                sizes[name] = size >> 10
                if number >= 0:
                    report.add(name, seconds, target=0.3)
        report.note(f"{ves} VEs, {nodes} nodes, {jobs} jobs; pages of {min(sizes.values())} to {max(sizes.values())} KiB")


def _manage(cloud: Cloud, *arguments: str) -> str:
    env = {**os.environ, "VMCLOUD_DATA": str(cloud.data), "PYTHONPATH": str(SOURCE)}
    argv = [sys.executable, "-m", "vmcloud.site", *arguments]
    return subprocess.run(argv, env=env, check=True, capture_output=True, text=True).stdout


class Browser:
    """As much of one as is needed: a connection and a session."""

    def __init__(self, cloud: Cloud) -> None:
        self._http = http.client.HTTPConnection(urlsplit(cloud.url).netloc, timeout=60)
        self._cookies: dict[str, str] = {}
        # First of all: the web part does not keep a connection for as long as this may take.
        password = cloud.run("passwd", "--generate").stdout.strip()
        status, text = self._ask("GET", "/admin/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', text)
        assert status == 200 and token, text
        form = {"username": "admin", "password": password, "next": "/admin/"}
        status, text = self._ask("POST", "/admin/login/", urlencode({**form, "csrfmiddlewaretoken": token[1]}))
        assert status == 302, text

    def get(self, path: str) -> int:
        """One page; its size in bytes."""
        status, text = self._ask("GET", path)
        assert status == 200, (path, status, text[:500])
        return len(text)

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if body:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self._http.request(method, path, body, headers)
        answer = self._http.getresponse()
        for line in answer.headers.get_all("Set-Cookie") or ():
            for name, morsel in http.cookies.SimpleCookie(line).items():
                self._cookies[name] = morsel.value
        return answer.status, answer.read().decode()
