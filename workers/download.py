"""The download of an image's archive, by ticket. What arrives is not believed: size and SHA-256 are those of the signed order."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from typing import IO

from vmcloud.domain.messages import StepOrder

from .drivers.base import BadRequest, NoSpace, Report, ToolFailed
from .images import ordered_sum

CHUNK = 1 << 20
SILENCE = 30.0
"""Seconds without a byte after which a download has failed."""


def download(order: StepOrder, into: IO[bytes], report: Report) -> None:
    """Stream the archive that a fetch step names. :class:`BadRequest` where it is another than ordered, :class:`ToolFailed`
    where the web part could not give it (worth another try), :class:`NoSpace`."""
    url, size = str(order.args["url"]), int(order.args["size"])
    if not url.startswith(("http://", "https://")):
        raise BadRequest("fetch", f"{url!r} is no HTTP address")
    request = urllib.request.Request(url, headers={"Authorization": f"Ticket {order.args['ticket']}"})
    digest, received, told = hashlib.sha256(), 0, -1
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=SILENCE) as response:
            while chunk := response.read(CHUNK):
                received += len(chunk)
                if received > size:
                    raise BadRequest("fetch", f"the archive is larger than the {size} bytes announced")
                digest.update(chunk)
                _write(into, chunk)
                if (percent := received * 100 // size) != told:
                    told = percent
                    report("download", percent)
    except urllib.error.HTTPError as error:
        raise ToolFailed(
            "fetch", f"the web part answered {error.code}", stderr=error.read(400).decode(errors="replace")
        ) from error
    except (OSError, ValueError) as error:
        raise ToolFailed("fetch", f"the download from {url} broke after {received} bytes: {error}") from error
    into.flush()
    os.fsync(into.fileno())
    if received != size or digest.hexdigest() != ordered_sum(order):
        raise ToolFailed("fetch", f"{received} bytes came with SHA-256 {digest.hexdigest()}, not what was ordered")


def _write(into: IO[bytes], chunk: bytes) -> None:
    try:
        into.write(chunk)
    except OSError as error:
        raise NoSpace("fetch", f"can not write the archive: {error}") from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could carry the ticket elsewhere: refuse it (the answer then is an HTTPError)."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        """None: do not follow."""
