"""``manage.py server``: the job server and scheduler."""

from __future__ import annotations

import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from vmcloud.fleet.server.loop import Server
from vmcloud.fleet.services import audit


class Command(BaseCommand):
    """Runs until SIGTERM or SIGINT; any number of these may run, one leads."""

    help = "Run the job server and scheduler. Any number may run; one of them leads."

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it."""
        server = Server(settings.CLOUD)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.stopping.set())
        audit.begin()
        server.run()
