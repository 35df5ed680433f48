"""``manage.py herald``: tells others what happened, for one leadership. Started by the leading server."""

from __future__ import annotations

import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from vmcloud.fleet.herald.process import Herald
from vmcloud.fleet.services import audit


class Command(BaseCommand):
    """Runs until its standard input closes, or another server leads."""

    help = "Send webhooks and call the hooks at the server. The leading server starts this by itself."

    def add_arguments(self, parser: CommandParser) -> None:
        """Whose herald it is."""
        parser.add_argument("holder")
        parser.add_argument("epoch", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # it ends with its server, which gets them too
        audit.begin()
        Herald(settings.CLOUD, options["holder"], options["epoch"]).run()
