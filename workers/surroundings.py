"""What containers find on their node: the bridge, lxcfs, the DHCP server, enough inotify instances. Seen to at the start and
every few minutes.

A node that lacks one of them still keeps and lists its guests: what can not be had is said in the log and by the driver's own
preflight.
"""

from __future__ import annotations

import logging
from pathlib import Path

from vmcloud.config import Config
from vmcloud.domain.errors import VmcloudError

from . import companions
from .companions import Companions, Host
from .drivers.base import DriverError
from .drivers.lxc.preflight import INOTIFY, INOTIFY_INSTANCES
from .journal import VERow
from .network import bridge

log = logging.getLogger(__name__)


def raise_inotify(path: Path = INOTIFY) -> None:
    """Lift the kernel's limit for all guests together where it is low: systemd inside guests dies of it without a word."""
    try:
        if int(path.read_text()) < INOTIFY_INSTANCES:
            path.write_text(str(INOTIFY_INSTANCES))
    except (OSError, ValueError) as error:
        log.warning("%s stays as it is: %s; the driver's preflight says the fix", path, error)


class Surroundings:
    """Those of one node."""

    def __init__(self, config: Config, name: str) -> None:
        self._settings, self._home = config.node, config.node_home(name)
        self._companions = Companions(self._home / "companions")
        self._dhcp = self._home / "dhcp"

    def ensure(self) -> None:
        """Make what is missing, keep what is there. Raises nothing."""
        raise_inotify()
        try:
            made = bridge.ensure(self._settings.bridge, self._settings.subnet)
            if not made.nat:
                log.warning("guests on %s reach no other network: %s", made.name, made.detail)
        except (VmcloudError, DriverError) as error:
            log.error("no bridge for guests: %s", error)
        for companion in (
            companions.lxcfs(self._home / "lxcfs"),
            companions.dhcp(self._settings.bridge, self._settings.subnet, self._dhcp),
        ):
            if companion is None:
                continue
            try:
                self._companions.ensure(companion)
            except (VmcloudError, DriverError, OSError) as error:
                log.warning("%s", error)

    def announce(self, row: VERow, there: bool) -> None:
        """Tell the DHCP server that a guest is, or is no more."""
        host = Host(row.mac, row.address, row.native.removesuffix(f"-{row.ve.hex[:8]}")) if there else None
        try:
            companions.write_host(self._dhcp, row.native, host)
        except OSError as error:
            log.warning("the DHCP server was not told about %s: %s", row.native, error)
