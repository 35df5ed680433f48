"""Web users as root of the machine sees to them: a new password, a new user."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from typing import Any

from vmcloud.config import Config
from vmcloud.domain.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable

from .child import credentials
from .parts import environment

TIMEOUT = 60.0
RESERVED = ("vmcloud",)
"""Names that no person may have: what the cloud does by itself is done in this name."""

_CODE = """
import json, sys
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
asked = json.loads(sys.stdin.read())
user = User.objects.filter(username=asked["user"]).first()
said, why = "ok", ""
if asked["create"] and user is not None:
    said = "exists"
elif user is None and not asked["create"]:
    said = "unknown"
else:
    try:
        if user is None:
            said = "name"
            user = User(username=asked["user"], is_staff=asked["admin"], is_superuser=asked["admin"])
            user.clean_fields(exclude=["password"])
        said = "password"
        validate_password(asked["password"], user)
        said = "ok"
        user.set_password(asked["password"])
        user.is_active = True
        user.save()
    except ValidationError as error:
        why = " ".join(error.messages)
print(json.dumps({"said": said, "why": why}))
"""


def set_password(config: Config, user: str, password: str, *, create: bool = False, admin: bool = False) -> None:
    """Set the password of ``user``, a new one with ``create``. It travels through a pipe, never in argv.

    Raises :class:`Invalid` for a password (or name) against the rules, :class:`NotFound`, :class:`Conflict`, :class:`Forbidden`
    for who is not root of this machine, :class:`Unavailable` where the job database can not be used.
    """
    check(config, user, create=create)
    answer = _ask(config, {"user": user, "password": password, "create": create, "admin": admin})
    said, why = answer["said"], answer["why"]
    if said == "unknown":
        raise NotFound(f"there is no user {user!r}", todo=f"Make it: vmcloud passwd {user} --create (--admin: an administrator).")
    if said == "exists":
        raise Conflict(f"there is a user {user!r} already", todo=f"Set a new password: vmcloud passwd {user}.")
    if said == "name":
        raise Invalid(f"{user!r} can not be a user's name", why=why)
    if said != "ok":
        raise Invalid(f"the password of {user} was not set", why=why)


def check(config: Config, user: str, *, create: bool) -> None:
    """Refuse what no password could change, so that none is asked for in vain."""
    if os.geteuid() != config.data.stat().st_uid:
        raise Forbidden("the users of this cloud are for root of this machine", todo="Run it as root: sudo vmcloud passwd.")
    if create and user in RESERVED:
        raise Invalid(f"{user!r} can not be a user's name", why="what the cloud does by itself is done in this name")


def generate(config: Config, user: str, *, create: bool = False, admin: bool = False) -> str:
    """Make up a password, set it, return it."""
    password = secrets.token_urlsafe(15)
    set_password(config, user, password, create=create, admin=admin)
    return password


def _ask(config: Config, asked: dict[str, Any]) -> dict[str, str]:
    """Run :data:`_CODE` as the user of the web part."""
    done = subprocess.run(
        [sys.executable, "-m", "vmcloud.site", "shell", "--no-imports", "--command", _CODE],
        env=environment(config.data),
        cwd=config.data,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        **credentials(config.user_of("web")),
    )
    try:
        answer: dict[str, str] = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError) as error:
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise Unavailable("the job database can not be used", why=why, todo="Look at `vmcloud doctor`.") from error
    return answer
