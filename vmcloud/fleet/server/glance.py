"""What there is to do, by one statement: most turns have to do with one job, and need not ask for all that others may need.

The statement is written out, since making it takes Django ten times as long as answering it takes the database.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection

_STATEMENT = """
SELECT
  EXISTS (SELECT 1 FROM fleet_job WHERE state = 'E'),
  EXISTS (SELECT 1 FROM fleet_job WHERE to_review AND cancel_requested_at IS NULL AND state IN ('Q', 'H', 'W', 'B')),
  EXISTS (SELECT 1 FROM fleet_job WHERE state = 'W' AND not_before <= %s AND cancel_requested_at IS NULL),
  EXISTS (SELECT 1 FROM fleet_job WHERE cancel_requested_at IS NOT NULL AND state IN ('Q', 'H', 'W', 'R') AND size = 0),
  EXISTS (SELECT 1 FROM fleet_job WHERE state = 'Q' AND behind = %s AND size = 0 AND holds = '' AND cancel_requested_at IS NULL)
"""


@dataclass(frozen=True)
class Glance:
    """Whether there are jobs that are ``ending``; that somebody ``changed`` while they wait; whose time has ``come``; that are
    ``cancelled`` and not over; that are queued and may be the ``first`` of their lanes."""

    ending: bool
    changed: bool
    come: bool
    cancelled: bool
    first: bool


def look(now: float) -> Glance:
    """As it is now (seconds since the epoch)."""
    with connection.cursor() as cursor:
        cursor.execute(_STATEMENT, [now, False])
        return Glance(*map(bool, cursor.fetchone()))
