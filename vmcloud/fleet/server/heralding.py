"""The leader's herald: a process beside it that tells others what happened, while there is anybody to tell."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading

from django.db import connection

from vmcloud.config import Config
from vmcloud.fleet.database import AWAY
from vmcloud.fleet.webhook_models import Webhook
from vmcloud.hooks.files import Folder

log = logging.getLogger("server.herald")

LOOK = 2.0
"""Seconds between two looks at whether anybody is to be told, and whether the herald lives."""


class HeraldKeeper:
    """Starts the herald, again if it dies, and ends it with this leadership: its standard input is a pipe that closes then, also
    if this process is killed."""

    def __init__(self, config: Config, holder: str, epoch: int) -> None:
        self._folder, self._who = Folder(config.hook_folder), (holder, epoch)
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="herald", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End it; it is not waited for."""
        self._ending.set()
        self._thread.join(LOOK)
        self._end()

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                try:
                    self._look()
                except Exception:  # else nobody would look any more for as long as this server leads
                    log.exception("looking after the herald failed; it is tried again")
                self._ending.wait(LOOK)
        finally:
            connection.close()

    def _look(self) -> None:
        try:
            wanted = bool(self._folder.folders()) or Webhook.objects.filter(enabled=True).exists()
        except AWAY:
            connection.close()
            return
        if self._process is not None and self._process.poll() is not None:
            log.warning("the herald ended with %d and is started again", self._process.returncode)
            self._end()
        if wanted and self._process is None and not self._ending.is_set():
            self._begin()
        elif not wanted and self._process is not None:
            self._end()

    def _begin(self) -> None:
        holder, epoch = self._who
        argv = [sys.executable, "-m", "vmcloud.site", "herald", holder, str(epoch)]
        try:
            self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, env=dict(os.environ))
        except OSError as error:
            log.error("the herald can not be started: %s", error)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            threading.Thread(target=process.wait, daemon=True).start()
