"""The web part's ASGI application."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vmcloud.site.settings")
django.setup(set_prefix=False)

from vmcloud.api.bodies import BodyLimit  # noqa: E402 - needs Django set up
from vmcloud.api.sessions import Sessions  # noqa: E402 - the same
from vmcloud.api.threads import Handler  # noqa: E402 - the same
from vmcloud.api.watch import Watch  # noqa: E402 - the same
from vmcloud.fleet.services import audit  # noqa: E402 - the same

audit.begin()
application = BodyLimit(Sessions(Watch(Handler())))
