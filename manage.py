#!/usr/bin/env python3
"""Django's command line for vmcloud: ``./manage.py server`` runs the job server and scheduler."""

from vmcloud.site.__main__ import main

if __name__ == "__main__":
    main()
