"""``manage.py bootstrap``: the first administrator and the machine's own token."""

from __future__ import annotations

import json
import secrets
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from vmcloud.fleet.models import Token
from vmcloud.fleet.services import accounts

LOCAL_TOKEN = "root on this machine"


class Command(BaseCommand):
    """Idempotent. The password is told only when the user is made, or with ``--reset``; the token is new each time."""

    help = "Make the first administrator, and a token for root on this machine; prints JSON."

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("--user", default="admin", help="the administrator's name (default: admin)")
        parser.add_argument("--reset", action="store_true", help="give the administrator a new password")
        parser.add_argument("--no-token", action="store_true", help="leave the token of root on this machine as it is")
        parser.add_argument("--json", action="store_true", help="print JSON (the only form; for scripts' clarity)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        if options["user"].lower() == accounts.SERVER.username:
            raise CommandError(f"the name {accounts.SERVER.username!r} is the server's own; choose another")
        user, made = User.objects.get_or_create(username=options["user"], defaults={"is_staff": True, "is_superuser": True})
        told: dict[str, Any] = {"username": user.get_username(), "password": None, "token": None}
        if made or options["reset"]:
            told["password"] = secrets.token_urlsafe(12)
            user.set_password(told["password"])
            user.save()
        if not options["no_token"]:
            Token.objects.filter(user=user, name=LOCAL_TOKEN).delete()
            told["token"] = accounts.issue(user, LOCAL_TOKEN)
        self.stdout.write(json.dumps(told))
