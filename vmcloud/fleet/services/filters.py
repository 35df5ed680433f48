"""The submit filter: a site's own executable, ``hooks/submit`` at the web part, that may refuse what people ask for.

It is called for each request that would become a job, after all checks of ours and before anything is written, with the verb and
the owner as arguments and the request as JSON on its standard input. 0 lets it pass; any other exit status refuses it, and what
it wrote is why. Where it does not decide, because it hangs, dies or may not be run, nothing is let through.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from vmcloud.domain.errors import Forbidden, Unavailable, VmcloudError
from vmcloud.fleet import ports
from vmcloud.hooks import files
from vmcloud.hooks.run import Limits, Ran, run

from .accounts import Actor

log = logging.getLogger(__name__)

WHY_MAX = 500
"""Characters of a refusal's reason."""


class Filtered(Forbidden):
    """The filter refuses it."""

    code = "submit-filter"


class Undecided(Unavailable):
    """The filter did not decide."""

    code = "submit-filter-failed"


def ask(actor: Actor, verb: str, request: Mapping[str, Any], *, origin: str) -> None:
    """Have a request looked at; :class:`Filtered` or :class:`Undecided`. One ``stat`` where there is no filter."""
    if (path := _folder(ports.cloud().hook_folder).find(files.SUBMIT)) is None:
        return
    if why := files.refusal(path):
        raise _undecided(why)
    told = {"verb": verb, "owner": actor.username, "admin": actor.is_admin, "origin": origin, **request}
    settings = ports.cloud().hooks
    limits = Limits(settings.submit_seconds, settings.processes)
    environment = {"LANG": "C.UTF-8", "VMCLOUD_VERB": verb, "VMCLOUD_OWNER": actor.username}
    try:
        ran = run(path, [verb, actor.username], environment, limits=limits, data=json.dumps(told, default=str))
    except OSError as error:
        raise _undecided(f"it could not be begun: {error}") from error
    if ran.trouble:
        raise _undecided(ran.sentence())
    if ran.code:
        raise Filtered("the submit filter refuses this", why=_why(ran))


def refusals(actor: Actor, requests: list[Any], *, origin: str) -> dict[int, VmcloudError]:
    """The same for many requests, by their places; before the transaction in which they are written, for which others wait."""
    if _folder(ports.cloud().hook_folder).find(files.SUBMIT) is None:
        return {}
    found: dict[int, VmcloudError] = {}
    for number, each in enumerate(requests):
        asked = each if isinstance(each, dict) else {}
        request = {name: asked.get(name) for name in ("ve", "project", "args")}
        try:
            ask(actor, str(asked.get("verb", "")), request, origin=origin)
        except VmcloudError as error:
            found[number] = error
    return found


@lru_cache(maxsize=4)
def _folder(path: Path) -> files.Folder:
    return files.Folder(path)


def _why(ran: Ran) -> str:
    said = "; ".join(line.strip() for line in ran.output.splitlines() if line.strip())
    return said[-WHY_MAX:] or f"exit status {ran.code}"


def _undecided(why: str) -> Undecided:
    log.error("the submit filter does not decide: %s", why)
    todo = "An administrator looks at hooks/submit in the data directory, at the web part."
    return Undecided("the submit filter does not decide, so nothing is taken", why=why.partition("\n")[0][:WHY_MAX], todo=todo)
