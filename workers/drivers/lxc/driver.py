"""The LXC driver: see :mod:`workers.drivers.base` for the contract of each call."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from vmcloud import faults
from vmcloud.domain.messages import Seen
from vmcloud.domain.vocabulary import Kind, Observed
from workers.drivers import tools
from workers.drivers.base import (
    BadRequest,
    Check,
    Driver,
    DriverError,
    Fingerprint,
    Freezer,
    Guest,
    NoImage,
    NoSpace,
    NoSuchGuest,
    Report,
    Runner,
    TimedOut,
    ToolFailed,
    silent,
)
from workers.drivers.session import Session
from workers.drivers.spawn import ProcessSession
from workers.storage.images import with_owners
from workers.storage.unpack import IdMap

from . import cgroups, exits, folder, monitor, preflight, process
from .config import GUEST_PATH, LxcSettings, host_veth, limits, render_config
from .folder import MAKING, POWER, Marker
from .process import Handle, Life

faults.declare(
    "worker",
    "driver.lxc.define.cloned",
    "driver.lxc.define.placed",
    "driver.lxc.start.ordered",
    "driver.lxc.delete.stopped",
    "driver.lxc.delete.trashed",
)

log = logging.getLogger(__name__)

LOG = "lxc.log"
LOG_MAX = 1 << 20
"""Bytes after which a running guest's liblxc log is emptied: a guest that reboots for ever must not fill the disk."""

START_TIMEOUT = 60.0
KILL_TIMEOUT = 20.0
SETTLE = 10.0
"""Seconds that a guest between two states is given to arrive."""

NO_ESCAPE = "-1"

LXC_PATH = "/usr/sbin:/sbin"
"""``PATH`` of lxc-start: without newuidmap in it, liblxc writes the id map itself, which root may do without /etc/subuid."""


class LxcDriver(Driver, Freezer, Runner):
    """Containers in ``settings.home/lxc``. Guests there that vmcloud did not make are listed and never touched."""

    kind = Kind.LXC

    def __init__(self, settings: LxcSettings) -> None:
        self.settings = settings
        self.guests = settings.guests
        self.host = cgroups.look_at_host(overlay=preflight.overlay_usable(settings.home))

    # ------------------------------------------------------------------------------------------------------- looking

    def fingerprint(self) -> Fingerprint:
        return preflight.fingerprint(self.settings)

    def preflight(self) -> Sequence[Check]:
        return preflight.checks(self.settings)

    def list(self) -> Sequence[Seen]:
        return [seen for path in folder.folders(self.guests) if (seen := self.inspect(path.name)) is not None]

    def inspect(self, native: str) -> Seen | None:
        path = self._folder(native)
        marker = folder.read_marker(path)
        if marker is None and not (path / "config").exists():
            return None
        life = process.look(self.guests, native)
        if marker is None:
            return Seen(native=native, kind=Kind.LXC, state=life.state)
        return self._seen(path, marker, life)

    def _seen(self, path: Path, marker: Marker, life: Life) -> Seen:
        guest = marker.guest
        state, error, since = life.state, "", _changed(path / POWER)
        vcpus, memory = guest.spec.vcpus, guest.spec.memory_mib
        if life.init:
            # The ordered power does not change when a guest that crashed is started again; its init is then a new one.
            since = max(since, process.began(life.init))
            with suppress(DriverError):
                vcpus, memory = cgroups.Groups(life.init).sizes()
            self._bound_log(path)
        elif state is Observed.STOPPED and _power(path) == Observed.RUNNING:
            # Nobody ordered this stop: the log tells a shutdown from inside and a crash apart. One that says nothing was emptied
            # while the guest ran, or the guest was to be started and the power went: no shutdown from inside.
            end, error = exits.how(_read(path / LOG))
            if end is not exits.End.CLEAN:
                state, error = Observed.CRASHED, error or exits.NO_TRACE
            since = max(since, _changed(path / LOG))
        return Seen(
            native=guest.native,
            kind=Kind.LXC,
            state=state,
            ve=guest.ve,
            addresses=(guest.address.partition("/")[0],) if guest.address else (),
            mac=guest.mac,
            since=since,
            vcpus=vcpus,
            memory_mib=memory,
            error=error,
        )

    def _bound_log(self, path: Path) -> None:
        with suppress(OSError):
            if (path / LOG).stat().st_size > LOG_MAX:
                os.truncate(path / LOG, 0)

    # -------------------------------------------------------------------------------------------------- made and removed

    def define(self, guest: Guest, report: Report = silent) -> None:
        """Make the guest.

        1. A whole guest of the same UUID: done. Another one's name: :class:`BadRequest`.
        2. Sweep what a killed call left, make the new folder beside LXCPATH: layer (or copy), configuration, marker.
        3. Rename it into place and make that durable: only now does the guest exist.
        """
        path = self._folder(guest.native)
        if path.exists():
            marker = self._marker(guest.native, "create")
            if marker.guest.ve != guest.ve:
                raise BadRequest("create", f"the name {guest.native} belongs to VE {marker.guest.ve} on this node")
            return
        if guest.image is None or not guest.image.is_dir():
            raise NoImage("create", f"the image {guest.spec.image} is not unpacked on this node", todo="Fetch the image first.")
        idmap = None if guest.spec.privileged else IdMap(self.settings.idmap_base, self.settings.idmap_size)
        guest = replace(guest, image=with_owners(guest.image, idmap, report))
        base = idmap.base if idmap else 0
        try:
            folder.prepare(self.guests, self.settings.idmap_base)
            folder.sweep(self.guests, guest.native)
            new = self.guests / MAKING / guest.native
            new.mkdir(mode=0o711)
            overlay = self.host.overlay and not self.settings.copy
            report("clone", -1)
            if overlay:
                self._layer(new, guest, base)
            else:
                cp = tools.require("cp", operation="create", package="coreutils")
                argv = [cp, "-a", "--reflink=auto", "--", str(guest.image), str(new / "rootfs")]
                tools.run(argv, operation="create", timeout=3600)
            faults.point("driver.lxc.define.cloned")
            folder.write_durably(new / "config", render_config(guest, self.settings, self.host))
            folder.write_durably(new / POWER, Observed.STOPPED)
            folder.write_marker(new, Marker(guest, copied=not overlay))
            folder.sync_directory(new)
            new.rename(path)
            faults.point("driver.lxc.define.placed")
            folder.sync_directory(self.guests)
        except OSError as error:
            raise _translate("create", error) from error

    def _layer(self, new: Path, guest: Guest, base: int) -> None:
        """An empty writable layer, owned by the guest's root, with the guest's name in it."""
        assert guest.image is not None
        for name in ("upper", "work"):
            (new / name).mkdir(mode=0o755)
            os.chown(new / name, base, base)
        etc = guest.image / "etc"
        if etc.is_dir() and not etc.is_symlink():
            mine = new / "upper" / "etc"
            mine.mkdir()
            mine.chmod(etc.stat().st_mode & 0o7777)
            (mine / "hostname").write_text(f"{guest.native.removesuffix(f'-{guest.ve.hex[:8]}')}\n")
            for path in (mine, mine / "hostname"):
                os.chown(path, base, base)

    def delete(self, native: str, report: Report = silent) -> None:
        """Remove the guest: 1. stop it by force, 2. rename its folder away (from here on it does not exist), 3. remove what is
        left of it: folder, groups, cable."""
        path = self._folder(native)
        veth = ""
        try:
            if path.exists():
                veth = host_veth(self._marker(native, "delete").guest)
                report("stop", -1)
                self.stop(native, force=True)
                faults.point("driver.lxc.delete.stopped")
                self._unmount(path)
                report("remove", -1)
                folder.retire(self.guests, path)
                faults.point("driver.lxc.delete.trashed")
            folder.sweep(self.guests, native)
        except OSError as error:
            raise _translate("delete", error) from error
        cgroups.remove_leftovers(native, self.settings.cgroup_prefix)
        self._unplug(veth)

    def _unplug(self, veth: str) -> None:
        """Remove a cable that a killed liblxc left; the next start could not make one of the same name."""
        if veth and Path(f"/sys/class/net/{veth}").exists():
            argv = [tools.require("ip", operation="network", package="iproute2"), "link", "del", veth]
            tools.run(argv, operation="network", timeout=10, check=False)

    def _unmount(self, path: Path) -> None:
        """Detach what somebody mounted below the guest's folder, so that removing the tree never reaches into it."""
        below = [line.split()[4] for line in _read(Path("/proc/self/mountinfo")).splitlines()]
        for point in reversed([point for point in below if point.startswith(f"{path}/")]):
            tools.run([tools.require("umount", operation="delete"), "-l", "--", point], operation="delete", timeout=30)

    def layers(self) -> frozenset[Path]:
        """The image trees that guests here are layers over; they must not be removed. Raises CannotLook."""
        markers = [folder.read_marker(path) for path in folder.folders(self.guests)]
        return frozenset(marker.guest.image for marker in markers if marker and marker.guest.image and not marker.copied)

    # ------------------------------------------------------------------------------------------------------------- power

    def start(self, native: str) -> None:
        path = self._folder(native)
        marker = self._marker(native, "start")
        life = self._settled(native)
        if life.state is Observed.SUSPENDED:
            cgroups.Groups(life.init).freeze(False)
        if life.state in (Observed.RUNNING, Observed.SUSPENDED):
            _set_power(path, Observed.RUNNING)
            return
        image = marker.guest.image
        if not marker.copied and (image is None or not image.is_dir()):
            raise BadRequest(
                "start", f"the image layer {image} is gone from this node", todo="Fetch the image again, then start."
            )
        for name in (LOG, "console.log"):
            with suppress(FileNotFoundError):
                os.truncate(path / name, 0)
        cgroups.remove_leftovers(native, self.settings.cgroup_prefix)
        self._unplug(host_veth(marker.guest))
        _set_power(path, Observed.RUNNING)
        faults.point("driver.lxc.start.ordered")
        program = tools.require("lxc-start", operation="start", package="lxc")
        argv = [program, "-P", str(self.guests), "-n", native, "-o", str(path / LOG), "-l", "DEBUG"]
        done = tools.run(argv, operation="start", timeout=START_TIMEOUT, daemonizes=True, check=False, path=LXC_PATH)
        life = process.look(self.guests, native)
        if done.code == 0 and life.state is Observed.RUNNING:
            return
        text = _read(path / LOG)
        why = exits.errors(text) or exits.how(text)[1] or f"its init is {life.state}"
        if done.code != 0:
            _set_power(path, Observed.STOPPED)
        raise ToolFailed("start", f"{native} did not start", exit_code=done.code, stderr=why)

    def stop(self, native: str, *, force: bool = False, grace: float = 30.0) -> None:
        path = self._folder(native)
        self._marker(native, "stop")
        life = process.look(self.guests, native)
        # Before the signal, so that a kill of this process in between leaves no "crashed" guest. A full disk prevents no stop.
        try:
            _set_power(path, Observed.STOPPED)
        except DriverError as error:
            log.error("the stop of %s is not recorded, so it will look like a crash: %s", native, error)
        if life.state is Observed.STOPPED:
            return
        if not life.init:
            self._await_stopped(native)
            return
        with Handle(life.monitor) as holder, Handle(life.init) as init:
            if not force:
                if life.state is Observed.SUSPENDED:
                    cgroups.Groups(life.init).freeze(False)
                init.send(process.halt_signal(life.init))
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

    def freeze(self, native: str) -> None:
        self._freeze(native, True)

    def thaw(self, native: str) -> None:
        self._freeze(native, False)

    def _freeze(self, native: str, wanted: bool) -> None:
        operation = "suspend" if wanted else "resume"
        self._marker(native, operation)
        life = self._settled(native)
        if not life.init:
            raise BadRequest(operation, f"{native} does not run", todo="Start it first.")
        cgroups.Groups(life.init).freeze(wanted)

    def _settled(self, native: str) -> Life:
        """The guest's power once it is not on its way between two states. Raises :class:`TimedOut`."""
        end = time.monotonic() + SETTLE
        while (life := process.look(self.guests, native)).state in (Observed.STARTING, Observed.STOPPING):
            if time.monotonic() > end:
                raise TimedOut("state", f"{native} has been {life.state} for {SETTLE:g} s")
            time.sleep(0.002)
        return life

    def _await_stopped(self, native: str) -> None:
        end = time.monotonic() + KILL_TIMEOUT
        while (life := process.look(self.guests, native)).state is not Observed.STOPPED:
            if life.init:
                return self.stop(native, force=True)
            if time.monotonic() > end:
                raise TimedOut("stop", f"{native} has been {life.state} for {KILL_TIMEOUT:g} s")
            time.sleep(0.002)
        return None

    # ------------------------------------------------------------------------------------------------------------- sizes

    def apply(self, guest: Guest) -> bool:
        """New sizes, first in the kernel (which may refuse), then in the configuration, then in the marker. Never needs a
        restart. The size of the disk is not enforced (no project quotas on overlay layers)."""
        path = self._folder(guest.native)
        marker = self._marker(guest.native, "resize")
        if marker.guest.ve != guest.ve:
            raise BadRequest("resize", f"{guest.native} belongs to VE {marker.guest.ve}")
        marker = marker.resized(guest)
        life = self._settled(guest.native)
        if life.init:
            cgroups.Groups(life.init).set(limits(marker.guest, self.settings, self.host))
        try:
            folder.write_durably(path / "config", render_config(marker.guest, self.settings, self.host))
            folder.write_marker(path, marker)
        except OSError as error:
            raise _translate("resize", error) from error
        return False

    # ---------------------------------------------------------------------------------------------------------- sessions

    def console(self, native: str) -> Session:
        """``lxc-console`` on the guest's /dev/console; its escape key is off, since it would end the program here."""
        self._running(native, "console")
        program = tools.require("lxc-console", operation="console", package="lxc")
        argv = [program, "-P", str(self.guests), "-n", native, "-t", "0", "-e", NO_ESCAPE]
        return ProcessSession(argv, {"LC_ALL": "C", "PATH": tools.SYSTEM_PATH}, tty=True)

    def exec(self, native: str, argv: Sequence[str], *, environment: Mapping[str, str], tty: bool) -> Session:
        """``lxc-attach`` with a clean environment."""
        self._running(native, "exec")
        program = tools.require("lxc-attach", operation="exec", package="lxc")
        inside = {"PATH": GUEST_PATH, "HOME": "/root", "USER": "root", **({"TERM": "xterm"} if tty else {}), **environment}
        setting = [word for name, value in inside.items() for word in ("-v", f"{name}={value}")]
        command = [program, "-P", str(self.guests), "-n", native, "--clear-env", *setting, "--", *argv]
        return ProcessSession(command, {"LC_ALL": "C", "PATH": tools.SYSTEM_PATH}, tty=tty)

    def boot_log(self, native: str) -> bytes:
        self._marker(native, "boot-log")
        try:
            return (self._folder(native) / "console.log").read_bytes()
        except FileNotFoundError:
            return b""

    def _running(self, native: str, operation: str) -> Life:
        """The guest's life. :class:`NoSuchGuest`; :class:`BadRequest` unless it runs."""
        self._marker(native, operation)
        life = self._settled(native)
        if life.state is not Observed.RUNNING:
            raise BadRequest(operation, f"{native} is {life.state}", todo="Start it first.")
        return life

    # ------------------------------------------------------------------------------------------------------------ events

    def events(self) -> Iterator[Seen]:
        """A lost connection is made again, and then every guest is said once, since changes may have been missed."""
        folder.prepare(self.guests, self.settings.idmap_base)
        while True:
            with monitor.connect(self.guests) as client:
                yield from self.list()
                for event in monitor.listen(client):
                    seen = self._after(event)
                    if seen is not None:
                        yield seen

    def _after(self, event: monitor.Event) -> Seen | None:
        """The guest as the event says it is. A guest of ours that is gone by now is no news here."""
        state = process.STATES[event.state]
        path = self._folder(event.native)
        try:
            marker = folder.read_marker(path)
        except DriverError:
            return None
        if marker is None:
            return Seen(native=event.native, kind=Kind.LXC, state=state) if (path / "config").exists() else None
        life = Life(state)
        if state in (Observed.RUNNING, Observed.SUSPENDED):
            life = process.look(self.guests, event.native)
            life = life if life.state is state else Life(state)
        return self._seen(path, marker, life)

    # ------------------------------------------------------------------------------------------------------------- pieces

    def _folder(self, native: str) -> Path:
        if not native or "/" in native or native.startswith((".", "-")):
            raise BadRequest("name", f"{native!r} cannot be a guest's name")
        return self.guests / native

    def _marker(self, native: str, operation: str) -> Marker:
        """Our marker of a guest. Raises :class:`NoSuchGuest`, and :class:`BadRequest` for a guest that is not ours."""
        path = self._folder(native)
        marker = folder.read_marker(path)
        if marker is not None:
            return marker
        if path.exists():
            raise BadRequest(operation, f"{native} was not made by vmcloud", todo="Use the tools it was made with.")
        raise NoSuchGuest(operation, f"no guest is called {native} on this node")


def _translate(operation: str, error: OSError) -> DriverError:
    text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    if error.errno in (28, 122):  # ENOSPC, EDQUOT
        return NoSpace(operation, f"no space left: {text}", todo="Delete guests or images on this node, or add disk.")
    return ToolFailed(operation, text)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _power(path: Path) -> str:
    """What we last ordered: ``running`` or ``stopped``."""
    return _read(path / POWER).strip()


def _set_power(path: Path, power: Observed) -> None:
    """Record what we order; durable when this returns, since it tells a crash from a shutdown after a power cut."""
    if _power(path) == power:
        return
    try:
        folder.write_durably(path / POWER, power)
        folder.sync_directory(path)
    except OSError as error:
        raise _translate("power", error) from error
