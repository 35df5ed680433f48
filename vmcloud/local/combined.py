"""The combined log: every line of every part with its time and the part's name, turned over by size; and, beside it, those of
them that tell a denial, for the audit."""

from __future__ import annotations

import datetime
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from vmcloud.config import Keep
from vmcloud.domain.denials import MARK, Denial, parse

DENIALS_MAX = 1 << 20
"""Bytes of the file of denials."""
LINE_LIMIT = 16384
"""Bytes of a line; a longer one is split."""


class CombinedLog:
    """Appends to ``path``; with ``echo`` also to standard output. Never raises: a full disk must not stop the cloud.

    ``denials``: a file that gets each denial that is told in a line (:mod:`vmcloud.domain.denials`), as a line of JSON with its
    time and part. It is begun anew in place where it has become too long: who reads it has a copy of what it read."""

    def __init__(self, path: Path, keep: Keep = Keep(), *, echo: bool = False, denials: Path | None = None) -> None:  # noqa: B008 - a frozen value
        self._denials = denials
        self._path, self._echo, self._limit, self._keep = path, echo, keep.log_mib << 20, keep.log_files
        self._open()

    def write(self, part: str, line: str) -> None:
        """One line of ``part``."""
        now = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="milliseconds")
        text = f"{now[:23]} {part:<10}| {line}\n"
        try:
            data = text.encode(errors="replace")
            os.write(self._file, data)
            self._size += len(data)
            if self._size > self._limit:
                self._turn_over()
        except OSError:
            pass
        if self._denials is not None and MARK in line and (denial := parse(line)) is not None:
            self._hand_on(self._denials, part, denial)
        if self._echo:
            try:
                sys.stdout.write(text)
                sys.stdout.flush()
            except OSError:
                self._echo = False

    def _hand_on(self, path: Path, part: str, denial: Denial) -> None:
        text = json.dumps({"at": round(time.time(), 3), "part": part, **asdict(denial)}) + "\n"
        try:
            # Made by up, so that who may read it is settled; a folder of root's, so it is no link.
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                if os.fstat(file).st_size > DENIALS_MAX:
                    os.ftruncate(file, 0)
                os.write(file, text.encode())
            finally:
                os.close(file)
        except OSError:
            pass

    def close(self) -> None:
        """No more lines will come."""
        os.close(self._file)

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._file).st_size

    def _turn_over(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            if older.exists():
                older.rename(self._path.with_name(f"{self._path.name}.{number + 1}"))
        self._path.rename(self._path.with_name(f"{self._path.name}.1"))
        os.close(self._file)
        self._open()


class Lines:
    """Cuts what comes from a pipe into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that ``data`` completes; at the end (no data) also what has no end of line."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if self._rest and (not data or len(self._rest) > LINE_LIMIT):
            whole.append(self._rest)
            self._rest = b""
        return [line.rstrip(b"\r").decode(errors="replace") for line in whole if line.strip()]


def tail(path: Path, part: str, count: int) -> list[str]:
    """The last ``count`` lines of ``part`` (of all, if empty); looks at the last 256 KiB only."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - (256 << 10)))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    marker = f" {part:<10}| "
    return [line for line in lines if not part or line[23:].startswith(marker)][-count:]
