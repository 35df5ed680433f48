"""What the worker sees to for its guests, without guests."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.surroundings import raise_inotify

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("before", "after"), [("128", "1024"), ("1024", "1024"), ("8192", "8192")])
def test_inotify_instances_are_raised_and_never_lowered(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "max_user_instances"
    path.write_text(before)
    raise_inotify(path)
    assert path.read_text() == after


def test_a_kernel_that_does_not_let_us_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raise_inotify(tmp_path / "absent")
    assert "stays as it is" in caplog.text
