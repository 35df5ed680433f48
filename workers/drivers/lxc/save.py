"""Saving guests, only where a container of their shape was really saved and went on, on this kernel with these tools."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from vmcloud.domain.errors import VmcloudError
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Kind, Observed
from workers.drivers import tools
from workers.drivers.base import BadRequest, Check, DriverError, Guest, Report, Unsupported, silent
from workers.storage.busybox import build_busybox
from workers.storage.images import ImageStore
from workers.storage.unpack import IdMap

from . import checkpoint, folder, making, power, process
from .guests import CONSOLE, Guests, read

TRIAL = "save-trial"
INSTEAD = "Suspend keeps a guest's memory while the node runs; stop and start keep its files."
READY_SECONDS = 5.0


def save(guests: Guests, native: str, report: Report) -> None:
    """Save a running guest; one whose saving was killed at its end is saved now."""
    guests.marker(native, "save")
    path = guests.path / native
    life = guests.settled(native)
    if life.state is Observed.STOPPED:
        if checkpoint.settle(path):
            return
        raise BadRequest("save", f"{native} does not run", todo="Start it first.")
    if life.state is Observed.SUSPENDED:
        raise BadRequest("save", f"{native} is suspended", todo="Resume it first.")
    check = can_save(guests)
    if not check.ok:
        raise Unsupported("save", f"guests cannot be saved on this node: {check.detail}", todo=check.fix)
    report("save", -1)
    guests.set_power(native, Observed.STOPPED)  # before, as at a stop: so that a kill leaves no "crashed" guest
    try:
        checkpoint.dump(guests, native)
    except DriverError:
        if process.look(guests.path, native).init:
            guests.set_power(native, Observed.RUNNING)
        checkpoint.sweep(path)
        raise


def can_save(guests: Guests) -> Check:
    """The result of the trial, which is made once for each kernel and versions of the tools."""
    for name, package in (("criu", checkpoint.PACKAGE), ("lxc-checkpoint", "lxc")):
        if tools.find(name) is None:
            return Check("save", False, f"the program {name} is not installed", f"apt-get install {package}; then it is tried.")
    record = guests.settings.home / f"{TRIAL}.json"
    tried = f"Linux {platform.release()}, criu {_version('criu')}, lxc {_version('lxc-checkpoint')}"
    known: dict[str, str] = {}
    with suppress(OSError, ValueError):
        known = json.loads(record.read_text())
    if known.get("tried") != tried:
        known = {"tried": tried, "failed": _trial(guests)}
        with suppress(OSError):
            folder.replace_durably({record: json.dumps(known)})
    failed = known["failed"]
    detail = f"a trial with {tried} failed: {failed}" if failed else f"a trial container was saved and went on ({tried})"
    return Check("save", not failed, detail, INSTEAD)


def _version(program: str) -> str:
    argv = [tools.require(program, operation="save"), "--version"]
    words = tools.run(argv, operation="save", timeout=10, check=False, path=tools.SYSTEM_PATH).stdout.split()
    return next((word for word in words if word[:1].isdigit()), "of unknown version")


def _trial(guests: Guests) -> str:
    """Save a throw-away container made as all others are, and let it go on; says what failed, or nothing."""
    place = guests.settings.home / f".{TRIAL}"
    trial = Guests(replace(guests.settings, home=place), guests.host)
    ve = uuid4()
    native = f"trial-{ve.hex[:8]}"
    try:
        _clear(trial, place)
        place.mkdir(mode=0o711)
        build_busybox(place / "busybox.tar")
        idmap = IdMap(guests.settings.idmap_base, guests.settings.idmap_size)
        store = ImageStore(place, idmap)
        image = store.unpack(place / "busybox.tar", hashlib.sha256((place / "busybox.tar").read_bytes()).hexdigest())
        spec = Spec.parse({"kind": Kind.LXC, "image": "busybox", "memory_mib": 64})
        making.define(trial, Guest(ve, native, spec, image, "169.254.86.86/30"), silent)
        power.start(trial, native)
        _await_ready(trial.path / native / CONSOLE)
        checkpoint.dump(trial, native)
        power.start(trial, native)
        time.sleep(0.2)
        if process.look(trial.path, native).state is not Observed.RUNNING:
            return "it did not go on"
        return "it was booted anew" if "ready" in read(trial.path / native / CONSOLE) else ""
    except (DriverError, VmcloudError, OSError) as error:
        return str(error)[:600]
    finally:
        with suppress(DriverError, OSError):
            _clear(trial, place)


def _clear(trial: Guests, place: Path) -> None:
    """Remove this trial, or one that was killed."""
    for path, marker in folder.entries(trial.path):
        if marker is not None:
            making.delete(trial, path.name, silent)
    if place.exists():
        shutil.rmtree(place)


def _await_ready(console: Path) -> None:
    end = time.monotonic() + READY_SECONDS
    while "ready" not in read(console) and time.monotonic() < end:
        time.sleep(0.01)
