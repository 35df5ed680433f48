"""``manage.py copydatabase URL``: everything in the job database, into another one that is empty."""

from __future__ import annotations

import copy
from itertools import islice
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.management.color import no_style
from django.db import Error, connections, transaction

from vmcloud.fleet import database
from vmcloud.fleet.models import Job
from vmcloud.site import database as urls

OTHER = "other"
AT_ONCE = 1000
"""Rows in one statement."""


class Command(BaseCommand):
    """All rows with their numbers, in one transaction: the other database has everything, or is as it was."""

    help = "Copy the job database into another, empty one. The cloud must not run meanwhile."

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("url", help="such as postgresql://user@host/name")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        try:
            made = urls.settings(options["url"], part="copy", passfile=settings.CLOUD.passfile)
        except urls.UnknownDatabase as error:
            raise CommandError(str(error)) from error
        connections.databases[OTHER] = {**copy.deepcopy(connections.databases["default"]), **made}
        try:
            call_command("migrate", database=OTHER, verbosity=0)
            count = self._copy()
        except Error as error:
            raise CommandError(f"the other database: {' '.join(str(error).split())}") from error
        self.stdout.write(f"{count} rows are copied")

    def _copy(self) -> int:
        tables = [model for model in apps.get_models(include_auto_created=True) if model._meta.managed]
        if Job.objects.using(OTHER).exists():
            raise CommandError("the other database is not empty: it has jobs")
        count = 0
        with transaction.atomic(using=OTHER), transaction.atomic():
            # `migrate` has made these, under numbers of its own.
            Permission.objects.using(OTHER).all().delete()
            ContentType.objects.using(OTHER).all().delete()
            for model in tables:
                rows = model._base_manager.order_by("pk").iterator(chunk_size=AT_ONCE)
                while some := list(islice(rows, AT_ONCE)):
                    for row in some:
                        database.fit(row)
                    model._base_manager.using(OTHER).bulk_create(some)
                    count += len(some)
            with connections[OTHER].cursor() as cursor:
                for statement in connections[OTHER].ops.sequence_reset_sql(no_style(), tables):
                    cursor.execute(statement)
        return count
