"""``manage.py rebuild``: make the read model anew from the directory."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from vmcloud.fleet.models import VE, Image, Lease, Node
from vmcloud.fleet.services import watermark

LOOK_EVERY = 0.1


class Command(BaseCommand):
    """The leader is made to begin anew: it reads the whole directory, writes every row again and removes those without an entry.
    Meanwhile the rows stay as they are, so nobody sees half a cloud. May be repeated at any time."""

    help = "Make the read model (VEs, nodes, images, strays) anew from the directory. Needs a server that runs."

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="wait at most so long (default: 60)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it, and wait until it is done."""
        began = time.time()
        if not Lease.objects.filter(expires__gt=began).update(holder="", expires=0.0):
            raise CommandError("no server leads; start one (`vmcloud up`), then try again")
        while watermark.synced_at() < began:
            if time.time() > began + options["timeout"]:
                raise CommandError(f"not done after {options['timeout']:g} s: does the directory answer? See `vmcloud status`")
            time.sleep(LOOK_EVERY)
        counts = ", ".join(f"{model.objects.count()} {model._meta.verbose_name_plural}" for model in (VE, Node, Image))
        self.stdout.write(f"rebuilt in {time.time() - began:.1f} s: {counts}")
