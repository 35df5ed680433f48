"""Django's registration of the fleet."""

from django.apps import AppConfig


class FleetConfig(AppConfig):
    """The fleet app."""

    name = "vmcloud.fleet"
    verbose_name = "Cloud"

    def ready(self) -> None:
        """Make the fault points known."""
        from . import points  # noqa: F401
