"""Fixtures for all tests; those of one server live in modules of their own (``slapd.py``, ``broker.py``)."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud import DATABASE
from tests.matrix import Matrix


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--matrix", action="store_true", help="write docs/kinds.md from what the drivers' contract suite proves")
    databases = ["sqlite", "postgres"]
    parser.addoption("--database", choices=databases, default=databases[0], help="where the clouds of the tests keep jobs")
    parser.addoption("--screenshots", metavar="DIR", help="tests/browser: also take the pictures of the documents, into DIR")


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts what runs in its background with SIGINT ignored (POSIX, 2.11), and our children would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ[DATABASE] = config.getoption("--database")
    config.addinivalue_line("markers", "power(*powers): the case needs these powers of the kind (vmcloud.domain.kinds)")
    config.pluginmanager.register(Matrix(config), "matrix")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "unit" and "web" in getattr(item, "fixturenames", ()):
            item.add_marker("engine")  # it asks the services, and they the database


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can walk through, with a short path (a socket's has at most 107 bytes): unlike ``tmp_path``."""
    folder = Path(tempfile.mkdtemp(prefix="p"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
