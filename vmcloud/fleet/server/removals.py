"""Entries that are gone from the directory: by a job of ours, or by somebody's hand, and then their guests are left alone."""

from __future__ import annotations

import logging
import time
from uuid import UUID

from vmcloud.directory import codec
from vmcloud.directory.errors import Unavailable as DirectoryUnavailable
from vmcloud.domain.vocabulary import EventType
from vmcloud.fleet.models import VE, Accepted
from vmcloud.fleet.services import events

from . import wanted, writers
from .context import Context

log = logging.getLogger("server.foreign")


def note(context: Context, ve: UUID) -> None:
    """The watch says that an entry is gone; inside a transaction, before the read model forgets it."""
    node = VE.objects.filter(pk=ve).values_list("node", flat=True).first() or ""
    context.foreign.discard(ve)
    context.vanished[ve] = (node, time.monotonic())
    context.again = True


def note_untold(context: Context) -> None:
    """The watch has told all there is: what was accepted and is not among it went while nobody watched; inside a transaction."""
    shown = VE.objects.values_list("uuid", flat=True)
    for ve in Accepted.objects.exclude(pk__in=shown).values_list("ve", flat=True):
        if ve not in context.suspects:
            context.vanished.setdefault(ve, ("", time.monotonic()))


def run(context: Context) -> None:
    """Tell of entries that are gone by somebody's hand; a job of ours leaves a tombstone, and nothing accepted."""
    for ve, (node, since) in list(context.vanished.items()):
        try:
            row = Accepted.objects.filter(pk=ve).first()
            if row is None or context.directory.find_ve(ve) is not None:
                context.vanished.pop(ve, None)
                continue
            dn = context.directory.tree.ve(row.project, row.name)
            remover = context.directory.remover(dn, row.at - writers.CLOCKS)
            buried = context.directory.tombstone(ve) is not None
        except DirectoryUnavailable as error:
            context.projection.down = error.problem.sentence()
            return
        if not (remover or buried) and time.monotonic() - since < writers.LOG_PATIENCE:
            continue
        with context.leader.transaction():
            if not buried:
                _tell_removed(context, row, node, remover)
            wanted.gone(ve)
        context.vanished.pop(ve, None)


def _tell_removed(context: Context, row: Accepted, node: str, remover: str) -> None:
    who = codec.rdns(remover)[0] if remover else "somebody unknown"
    where = f" on node {node}" if node else ""
    text = f"its entry was deleted from the directory by {who}; the guest{where} is left as it is, and is nobody's now. "
    text += f"To have it back, add the entry again with vmcUUID {row.ve}. (What deletes a VE is vmcDesiredState: absent.)"
    about = {"project": row.project, "owner": row.wish["owner"], "ve": row.ve, "ve_name": row.name, "node": node}
    events.note(EventType.REMOVED, text, at=context.clock(), **about)
    log.warning("%s: %s", row.name, text)
