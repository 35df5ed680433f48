"""Fixtures for all tests; those of one server live in modules of their own (``slapd.py``, ``broker.py``)."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.matrix import Matrix


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--matrix", action="store_true", help="write docs/kinds.md from what the drivers' contract suite proves")
    parser.addoption("--screenshots", metavar="DIR", help="tests/browser: also take the pictures of the documents, into DIR")


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts what runs in its background with SIGINT ignored (POSIX, 2.11), and our children would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "power(*powers): the case needs these powers of the kind (vmcloud.domain.kinds)")
    config.pluginmanager.register(Matrix(config), "matrix")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can walk through, with a short path (a socket's has at most 107 bytes): unlike ``tmp_path``."""
    folder = Path(tempfile.mkdtemp(prefix="p"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
