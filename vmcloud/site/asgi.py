"""The web part's ASGI application."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vmcloud.site.settings")
_django = get_asgi_application()

from vmcloud.api.bodies import BodyLimit  # noqa: E402 - needs Django set up
from vmcloud.api.sessions import Sessions  # noqa: E402 - the same

application = BodyLimit(Sessions(_django))
