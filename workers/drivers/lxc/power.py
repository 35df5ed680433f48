"""A guest's power: start, stop, suspend, resume."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress

from vmcloud import faults
from vmcloud.domain.vocabulary import Observed
from workers.drivers import tools
from workers.drivers.base import BadRequest, DriverError, TimedOut, ToolFailed

from . import adoption, cgroups, checkpoint, exits, monitor, naming, process, snapshots
from .config import host_veth
from .folder import Marker
from .guests import CONSOLE, LOG, Guests, read
from .process import Handle, Life

faults.declare("worker", "driver.lxc.start.ordered", "driver.lxc.stop.ordered", "driver.lxc.stop.asked")

log = logging.getLogger(__name__)

START_TIMEOUT = 60.0
KILL_TIMEOUT = 20.0

LXC_PATH = "/usr/sbin:/sbin"
"""``PATH`` of lxc-start: without newuidmap in it, liblxc writes the id map itself, which root may do without /etc/subuid."""


def start(guests: Guests, native: str) -> None:
    """Boot it; a suspended guest is resumed."""
    marker = guests.marker(native, "start")
    path = guests.path / native
    life = guests.settled(native)
    if life.state is Observed.SUSPENDED:
        _change(guests, native, life, False)
    if life.state in (Observed.RUNNING, Observed.SUSPENDED):
        guests.set_power(native, Observed.RUNNING)
        return
    image = marker.guest.image
    if not marker.copied and (image is None or not image.is_dir()):
        raise BadRequest("start", f"the image layer {image} is gone from this node", todo="Fetch the image again, then start.")
    adoption.settle(path)
    naming.settle(guests, marker)
    snapshots.sweep(path)
    checkpoint.sweep(path)
    for name in (LOG, CONSOLE):
        with suppress(FileNotFoundError):
            os.truncate(path / name, 0)
    guests.remove_groups(native)
    guests.unplug(host_veth(marker.guest))
    recorded = guests.order_power(native, Observed.RUNNING)
    faults.point("driver.lxc.start.ordered")
    if checkpoint.saved(path):
        recorded()
        _go_on(guests, marker)
        return
    program = tools.require("lxc-start", operation="start", package="lxc")
    argv = [program, "-P", str(guests.path), "-n", native, "-o", str(path / LOG), "-l", "DEBUG"]
    try:
        done = tools.run(
            argv, operation="start", timeout=START_TIMEOUT, daemonizes=True, check=False, path=LXC_PATH, meanwhile=recorded
        )
    except TimedOut:
        # What it has left in the background could boot the guest later, when nobody expects that.
        process.end_monitors(guests.path, native)
        guests.set_power(native, Observed.STOPPED)
        raise
    life = process.look(guests.path, native)
    if done.code == 0 and life.state is Observed.RUNNING:
        guests.booted(marker, life, fresh=True)
        return
    text = read(path / LOG)
    why = exits.errors(text) or exits.how(text)[1] or f"its init is {life.state}"
    if done.code != 0:
        guests.set_power(native, Observed.STOPPED)
    raise ToolFailed("start", f"{native} did not start", exit_code=done.code, stderr=why)


def _go_on(guests: Guests, marker: Marker) -> None:
    """Start from saved memory."""
    native = marker.guest.native
    try:
        checkpoint.resume(guests, native)
    except DriverError:
        stop(guests, native, force=process.look(guests.path, native).state is not Observed.STOPPED)
        raise
    life = process.look(guests.path, native)
    if life.state is not Observed.RUNNING:
        raise ToolFailed("start", f"{native} did not go on from its saved memory", todo="Start it again: it boots anew.")
    guests.booted(marker, life)


def stop(guests: Guests, native: str, *, force: bool = False, grace: float = 30.0) -> None:
    """Ask init to shut down, and after ``grace`` seconds kill it; by process descriptors, and done when liblxc's monitor process
    has cleaned up."""
    guests.marker(native, "stop")
    life = process.look(guests.path, native)
    # Before the signal, so that a kill of this process in between leaves no "crashed" guest. A full disk prevents no stop.
    try:
        guests.set_power(native, Observed.STOPPED)
    except DriverError as error:
        log.error("the stop of %s is not recorded, so it will look like a crash: %s", native, error)
    faults.point("driver.lxc.stop.ordered")
    if life.state is Observed.STOPPED:
        if force:
            checkpoint.forget(guests.path / native)
        return
    if not life.init:
        _await_stopped(guests, native)
        return
    with Handle(life.monitor) as holder, Handle(life.init) as init:
        if not force:
            if life.state is Observed.SUSPENDED:
                cgroups.Groups(life.init).freeze(False)
            init.send(process.halt_signal(life.init))
            faults.point("driver.lxc.stop.asked")
            if holder.wait(grace):
                return
            log.info("%s did not stop within %g s and is killed", native, grace)
        init.send(9)
        with suppress(DriverError):
            groups = cgroups.Groups(life.init)
            if groups.frozen:
                # Version 1 delivers the signal only to a thawed process.
                groups.freeze(False)
        if not holder.wait(KILL_TIMEOUT):
            raise TimedOut("stop", f"{native} was killed and did not end within {KILL_TIMEOUT:g} s")


def _await_stopped(guests: Guests, native: str) -> None:
    end = time.monotonic() + KILL_TIMEOUT
    while (life := process.look(guests.path, native)).state is not Observed.STOPPED:
        if life.init:
            return stop(guests, native, force=True)
        if time.monotonic() > end:
            if process.end_monitors(guests.path, native):
                return None
            raise TimedOut("stop", f"{native} has been {life.state} for {KILL_TIMEOUT:g} s")
        time.sleep(0.002)
    return None


def freeze(guests: Guests, native: str, wanted: bool) -> None:
    """Suspend or resume, by the control group."""
    operation = "suspend" if wanted else "resume"
    guests.marker(native, operation)
    life = guests.settled(native)
    if not life.init:
        raise BadRequest(operation, f"{native} does not run", todo="Start it first.")
    _change(guests, native, life, wanted)


def _change(guests: Guests, native: str, life: Life, frozen: bool) -> None:
    if (life.state is Observed.SUSPENDED) is not frozen:
        cgroups.Groups(life.init).freeze(frozen)
        monitor.tell(guests.path, native, "FROZEN" if frozen else "THAWED")
