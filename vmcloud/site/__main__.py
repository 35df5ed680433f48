"""``python -m vmcloud.site COMMAND``: what ``manage.py COMMAND`` does, also where vmcloud is installed as a package."""

import os
import sys

from django.core.management import execute_from_command_line


def main() -> None:
    """Run one management command."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vmcloud.site.settings")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
