"""Setting a person's web password as root of the machine."""

from __future__ import annotations

import secrets

from vmcloud.config import Config
from vmcloud.domain.errors import Unavailable

from . import prepare

_CODE = """
import sys
from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
name, password = sys.stdin.read().split("\\n", 1)
user = get_user_model().objects.filter(username=name).first()
if user is None:
    raise SystemExit(f"there is no user {name}")
try:
    validate_password(password, user)
except ValidationError as error:
    raise SystemExit(" ".join(error.messages))
user.set_password(password)
user.is_active = True
user.save()
"""


def set_password(config: Config, user: str, password: str) -> None:
    """Set it; the password travels through a pipe, never in argv. :class:`Unavailable` where Django refuses."""
    try:
        prepare.site(config, "shell", "--no-imports", "--command", _CODE, stdin=f"{user}\n{password}")
    except SystemExit as error:
        raise Unavailable(f"the password of {user} was not set", why=str(error)) from error


def generate(config: Config, user: str) -> str:
    """Make up a password, set it, return it."""
    password = secrets.token_urlsafe(15)
    set_password(config, user, password)
    return password
