"""Django's registration of the fleet, and of its admin site."""

from django.apps import AppConfig
from django.contrib.admin import apps


class FleetConfig(AppConfig):
    """The fleet app."""

    name = "vmcloud.fleet"
    verbose_name = "Cloud"
    default = True

    def ready(self) -> None:
        """Make the fault points known."""
        from . import points  # noqa: F401


class AdminConfig(apps.AdminConfig):
    """Django's admin with a site of our own."""

    default_site = "vmcloud.fleet.admin_site.CloudSite"
    default = False
