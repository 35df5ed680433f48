"""Within the namespaces: a pytest plugin that runs benchmarks in place of tests, in an interpreter that can trace."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from .main import PLAIN, SOURCE, WISHES
from .measure import Report, Wishes

PTH = "import os; any(map(os.environ.get, {variables})) and __import__('benchmarks.trace').trace.install()\n"


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main() -> int:
    """Run the benchmarks and end."""
    return start(os.environ[WISHES])


def start(wishes: str) -> int:
    """Run what these wishes (JSON, see :mod:`benchmarks.main`) ask for; the exit code. In an interpreter of its own, because
    `vmcloud up` starts all parts with its own interpreter: so the trace needs nothing in the program itself."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        argv = [str(interpreter(Path(folder))), "-m", "benchmarks.inside"]
        environment = {**os.environ, "PYTHONPATH": str(SOURCE), WISHES: wishes}
        return subprocess.run(argv, cwd=SOURCE, close_fds=False, check=False, env=environment).returncode


def interpreter(folder: Path) -> Path:
    """An interpreter like this one that also installs the trace and the counts at its start where they are asked for."""
    from . import counts, trace

    folder.chmod(0o711)
    packages = next(Path(each) for each in sys.path if each.endswith("site-packages"))
    mine = folder / "lib" / packages.parent.name / "site-packages"
    mine.mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    (folder / "pyvenv.cfg").write_text((Path(sys.prefix) / "pyvenv.cfg").read_text())
    (mine / "benchmarks.pth").write_text(f"{packages}\n" + PTH.format(variables=(trace.VARIABLE, counts.VARIABLE)))
    return folder / "bin" / "python"


def main() -> int:
    """Run what :mod:`benchmarks.main` was asked for; the exit code: 1 where something that must hold does not."""
    asked = json.loads(os.environ[WISHES])
    with contextlib.ExitStack() as files:
        return _run(asked, files)


def _run(asked: dict[str, Any], files: contextlib.ExitStack) -> int:
    wishes = Wishes(**{name: asked[name] for name in PLAIN})
    if asked["replay"] >= 0:
        wishes = replace(wishes, replay=files.enter_context(os.fdopen(asked["replay"])).readlines())
    if asked["log"] >= 0:
        wishes = replace(wishes, log=files.enter_context(os.fdopen(asked["log"], "w", buffering=1)).write)
    numbers, failed = [], False
    for name in asked["names"]:
        began = time.monotonic()
        report = Report(name)
        try:
            importlib.import_module(f"benchmarks.{name.replace('-', '_')}").run(report, wishes)
        except Exception:  # the others are run all the same
            traceback.print_exc()
            report.note("FAILED: see what is above")
            report.failed = True
        report.show(time.monotonic() - began)
        numbers.append(report.to_json())
        failed = failed or report.failed
    if asked["json"] >= 0:
        with os.fdopen(asked["json"], "w") as stream:
            json.dump(numbers, stream, indent=1)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
