"""Hooks at the server: executables that are told of what happens, one after the other.

``hooks/<type>/`` in the data directory holds those for one type of happening, ``hooks/all/`` those for all. Each is called with
the type and the happening's id, and reads on its standard input what a webhook would be sent. What it answers changes nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from django.db import close_old_connections, connection

from vmcloud.config import Config
from vmcloud.domain.happenings import Happening
from vmcloud.fleet.database import AWAY
from vmcloud.fleet.services import feed, webhooks
from vmcloud.hooks import files
from vmcloud.hooks.run import Limits, Running, run

from .gather import Line

log = logging.getLogger("herald.hooks")

LINE = "hooks"
TICK = 0.3


class EventHooks:
    """The hooks of one server."""

    def __init__(self, config: Config, ending: threading.Event) -> None:
        self._home = files.Folder(config.hook_folder)
        self._folders: dict[str, files.Folder] = {}
        self._limits = Limits(config.hooks.event_seconds, config.hooks.processes)
        self._line, self._ending = Line(LINE), ending

    def run(self) -> None:
        """Until the end."""
        while not self._ending.is_set():
            try:
                self._turn()
            except AWAY as error:
                log.warning("the job database does not answer: %s", error)
                close_old_connections()
                self._ending.wait(1.0)
            except Exception:
                log.exception("hooks could not be told")
                self._ending.wait(5.0)
            self._ending.wait(TICK)
        connection.close()

    def _turn(self) -> None:
        """One look. Without hooks there is no place in the feed: they are told of what happens once they are there."""
        if not self._home.folders():
            self._line.leave()
            return
        self._line.begin(time.time())
        happenings, place = self._line.news()
        for each in happenings:
            self._tell(each)
        if place is not None and not self._ending.is_set():
            self._line.move(place, happenings)

    def _tell(self, happening: Happening) -> None:
        if (late := time.time() - happening.at) > feed.KEPT:
            log.warning("hooks are behind: %s (%s) was %.0f s ago and is not told to them", happening.id, happening.type, late)
            return
        for path in self._hooks(happening.type):
            if not self._ending.is_set():
                self._call(path, happening)

    def _hooks(self, type: str) -> Iterator[Path]:
        for name in (type, files.ALL):
            if name in self._home.folders():
                folder = self._folders.setdefault(name, files.Folder(self._home.path / name))
                yield from folder.all()

    def _call(self, path: Path, happening: Happening) -> None:
        what = f"{path.parent.name}/{path.name} for {happening.id}"
        if why := files.refusal(path):
            log.error("hook %s is not run: %s", what, why)
            return
        environment = {"LANG": "C.UTF-8", "VMCLOUD_EVENT": happening.type, "VMCLOUD_EVENT_ID": happening.id}
        running = Running()
        watch = threading.Thread(target=self._end_with_us, args=(running, done := threading.Event()), daemon=True)
        watch.start()
        try:
            arguments = [happening.type, happening.id]
            ran = run(path, arguments, environment, limits=self._limits, data=webhooks.payload(happening), running=running)
        except OSError as error:
            log.error("hook %s could not be begun: %s", what, error)
            return
        finally:
            done.set()
        (log.info if ran.code == 0 else log.warning)("hook %s %s", what, ran.sentence())

    def _end_with_us(self, running: Running, done: threading.Event) -> None:
        while not done.wait(TICK):
            if self._ending.is_set():
                running.stop()
                return
