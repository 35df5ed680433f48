"""The web part's ASGI application."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vmcloud.site.settings")
django.setup(set_prefix=False)

from vmcloud.api.bodies import BodyLimit  # noqa: E402 - needs Django set up
from vmcloud.api.reader import Reader  # noqa: E402 - the same
from vmcloud.api.sessions import Sessions  # noqa: E402 - the same
from vmcloud.api.threads import Handler  # noqa: E402 - the same
from vmcloud.api.waits import Waits  # noqa: E402 - the same
from vmcloud.api.watch import Watch  # noqa: E402 - the same
from vmcloud.fleet.services import audit  # noqa: E402 - the same

audit.begin()
reader = Reader()
application = BodyLimit(Sessions(Watch(Waits(Handler(), reader), reader), reader))
