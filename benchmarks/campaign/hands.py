"""How the acts of a plan are carried out: requests by several people at once, faults each in a thread of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import ldap
import ldap.sasl
import redis

from vmcloud.domain.vocabulary import Observed
from workers.drivers import simulated

from .client import PATIENCE, Asked, take
from .plan import CONTAINERS, Act
from .world import SUFFIX, World

PEOPLE = 12
"""Requests under way at once: some wait long for an answer."""
JOB_VERBS = ("cancel", "hold", "release", "run", "retry")


class People:
    """Those who ask; ``asked`` has every request for a job that was sent."""

    def __init__(self, world: World, seed: int) -> None:
        self.asked: list[Asked] = []
        self.of: dict[int, str] = {}
        """Number of a request → its job, as people write it."""
        self._client = world.client()
        self._directory = f"ldapi://{quote(str(world.ldapi), safe='')}"
        self._seed = seed
        self._pool = ThreadPoolExecutor(PEOPLE, "people")

    def do(self, act: Act) -> None:
        """Begin a request."""
        self._pool.submit(self._do, act)

    def finish(self) -> None:
        """Wait for all answers."""
        self._pool.shutdown(wait=True)

    def _do(self, act: Act) -> None:
        if act.verb == "batch":
            self._batch(act)
        elif act.verb == "ldap":
            self._by_ldap(act)
        elif act.verb in (*JOB_VERBS, "order", "priority"):
            self._about_a_job(act)
        else:
            self._about_a_ve(act)

    def _about_a_ve(self, act: Act) -> None:
        args = dict(act.args)
        if (terms := self._terms(args.pop("job", {}))) is not None:
            args["job"] = terms
        if "array" in args:
            args["job"] = {"array": args.pop("array")}
        name = quote(act.target)
        method, path = "POST", f"/ves/{name}/{act.verb}"
        match act.verb:
            case "create":
                kind = "lxc" if act.target in CONTAINERS else "simulated"
                path, args = "/ves", {"name": act.target, "image": "busybox", "kind": kind, **args}
            case "resize":
                method, path = "PATCH", f"/ves/{name}"
            case "delete":
                method, path = "DELETE", f"/ves/{name}"
            case "snapshot":
                path, args = f"/ves/{name}/snapshots", {"name": args.pop("snapshot"), **args}
            case "delete-snapshot":
                method, path = "DELETE", f"/ves/{name}/snapshots/{args.pop('snapshot')}"
        asked = Asked(f"{self._seed}-{act.number}", act.verb, act.target)
        self.asked.append(asked)
        self._client.settle(asked, method, path, args or None, stubborn=act.stubborn)
        if asked.job:
            self.of[act.number] = f"{asked.job}[]" if "array" in act.args else str(asked.job)

    def _terms(self, said: dict[str, Any]) -> dict[str, Any] | None:
        """What is said of when a job may run, with times and numbers as they are now."""
        terms = dict(said)
        if "wait" in terms:
            terms["not_before"] = (datetime.now(UTC) + timedelta(seconds=terms.pop("wait"))).isoformat()
        if "after" in terms:
            word, others = terms.pop("type"), [self.of[number] for number in terms.pop("after") if number in self.of]
            if others:
                terms["depend"] = ":".join([word, *map(str, others)])
        return terms or None

    def _about_a_job(self, act: Act) -> None:
        if (known := self.of.get(int(act.target))) is None:
            return
        number = quote(known)
        match act.verb:
            case "order":
                if (other := self.of.get(act.args["other"])) is not None:
                    self._client.send("POST", f"/jobs/{number}/order", {"job": other if "[" in other else int(other)})
            case "priority":
                self._client.send("PATCH", f"/jobs/{number}", act.args)
            case "retry":
                asked = Asked(f"{self._seed}-{act.number}", "", "")
                self.asked.append(asked)
                self._client.settle(asked, "POST", f"/jobs/{number}/retry", None, stubborn=False)
                self.of.update({act.number: str(asked.job)} if asked.job else {})
            case _:
                self._client.send("POST", f"/jobs/{number}/{act.verb}")

    def _by_ldap(self, act: Act) -> None:
        """Change an entry as root of the directory's machine, with any LDAP tool. What is not there can not be changed."""
        with contextlib.suppress(ldap.LDAPError):
            connection = ldap.initialize(self._directory)
            connection.set_option(ldap.OPT_NETWORK_TIMEOUT, PATIENCE)
            connection.set_option(ldap.OPT_TIMEOUT, PATIENCE)
            try:
                connection.sasl_interactive_bind_s("", ldap.sasl.external())
                changes = [(ldap.MOD_REPLACE, name, [value.encode()]) for name, value in act.args.items()]
                connection.modify_s(f"cn={act.target},ou=main,ou=ves,{SUFFIX}", changes)
            finally:
                connection.unbind_s()

    def _batch(self, act: Act) -> None:
        """One answer tells of all its requests; where it is lost, of none."""
        requests = [{**each, "key": f"{self._seed}-{act.number}.{i}"} for i, each in enumerate(act.args["requests"])]
        made = [Asked(each["key"], each["verb"], each["ve"]) for each in requests]
        self.asked += made
        for _ in range(20 if act.stubborn else 1):
            answer = self._client.send("POST", "/jobs", {"requests": requests})
            for asked in made:
                asked.tries += 1
            if not answer.lost:
                break
            time.sleep(1.0)
        if answer.status == 200:
            for asked, said in zip(made, answer.body["items"], strict=True):
                status = 202 if said.get("job") else 409
                take(asked, type(answer)(status, said.get("job") or said.get("problem")))


class Faults:
    """What goes wrong. ``done`` counts by kind; what lasts ends by itself, or by :meth:`end`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.done: dict[str, int] = {}
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._busy: set[str] = set()

    def do(self, act: Act) -> None:
        """Begin a fault."""
        thread = threading.Thread(target=self._do, args=(act,), name=f"fault-{act.verb}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def end(self) -> None:
        """All is mended."""
        self._over.set()
        for thread in self._threads:
            thread.join(180)
        self._world.proxy.mend()

    def _do(self, act: Act) -> None:
        with self._alone(f"{act.verb} {act.target}") as free:
            if free and self._perform(act):
                with self._lock:
                    self.done[act.verb] = self.done.get(act.verb, 0) + 1

    @contextlib.contextmanager
    def _alone(self, what: str) -> Any:
        """False where the same is under way already."""
        with self._lock:
            free = what not in self._busy
            self._busy.add(what)
        try:
            yield free
        finally:
            if free:
                with self._lock:
                    self._busy.discard(what)

    def _lasts(self, act: Act) -> None:
        self._over.wait(float(act.args["seconds"]))

    def _perform(self, act: Act) -> bool:
        """Whether there was anything to hit."""
        world, link = self._world, self._world.proxy.links.get(act.target)
        match act.verb:
            case "kill":
                return _signal(world.pid(act.target), signal.SIGKILL)
            case "freeze":
                pid = world.pid(act.target)
                if not _signal(pid, signal.SIGSTOP):
                    return False
                self._lasts(act)
                _signal(pid, signal.SIGCONT)  # unless it was killed meanwhile
            case "power":
                world.power_off(act.target)
                self._lasts(act)
                world.start(act.target)
            case "flush":
                with contextlib.suppress(redis.RedisError):
                    world.flush()
            case "cut":
                world.cut(act.target, off=True)
                self._lasts(act)
                world.cut(act.target, off=False)
            case "half-open" if link is not None:
                link.silent = True
                self._lasts(act)
                link.silent = False
            case "delay" if link is not None:
                link.late = float(act.args["late"])
                self._lasts(act)
                link.late = 0.0
            case "tear" if link is not None:
                link.tear_after = int(act.args["bytes"])
            case "guest":
                return self._kill_guest(act.target)
        return True

    def _kill_guest(self, name: str) -> bool:
        """Kill one from outside, if it runs."""
        for node, home in self._world.homes().items():
            if node.startswith("lxc"):
                for folder in (home / "lxc").glob(f"{name}-????????"):
                    argv = ["lxc-info", "-P", str(home / "lxc"), "-n", folder.name, "-p", "-H"]
                    said = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False).stdout.strip()
                    if said.isdigit() and _signal(int(said), signal.SIGKILL):
                        return True
                continue
            file = home / "simulated.sqlite3"
            with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(file, timeout=5)) as store:
                asked = "SELECT native FROM guests WHERE native GLOB ? AND state = 'running' AND whole"
                found = store.execute(asked, (f"{name}-????????",)).fetchone()
                if found:
                    simulated.outside(file, found[0], Observed.CRASHED)
                    return True
        return False


def _signal(pid: int, number: signal.Signals) -> bool:
    """Whether there was a process to hit."""
    if pid <= 1:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
