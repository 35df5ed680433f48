"""Hooks: which may be run, and that whatever one does it ends in time and nothing of it is left."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from vmcloud.hooks.files import Folder, refusal
from vmcloud.hooks.run import NOT_RUN, TIMED_OUT, Limits, Ran, Running, run

pytestmark = pytest.mark.unit
LIMITS = Limits(seconds=5.0, processes=30, kept=300)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "hooks"
    made.mkdir(mode=0o755)
    return made


def hook(folder: Path, text: str, name: str = "hook", mode: int = 0o755) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


def called(folder: Path, text: str, limits: Limits = LIMITS) -> Ran:
    return run(hook(folder, text), ["a b", "c"], {"NAME": "value"}, limits=limits, data='{"x": 1}')


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_hook_gets_arguments_a_clean_environment_and_data(folder: Path) -> None:
    ran = called(folder, '#!/bin/sh\necho "$1|$2|$NAME|$HOME|$(pwd)"; cat; exit 7\n')
    assert ran.code == 7 and ran.output == f'a b|c|value||{folder}\n{{"x": 1}}'


def test_what_it_leaves_behind_is_killed_in_whatever_session_it_hid(folder: Path) -> None:
    other = "setsid sh -c 'echo $$; exec sleep 1000' &"
    ran = called(folder, f"#!/bin/sh\nsleep 1000 & echo $!\n{other}\n({other})\nsleep 0.3\n")
    pids = [int(line) for line in ran.output.split()]
    assert ran.code == 0 and len(pids) == 3 and ran.left == 3
    assert alive(pids) == []


def test_one_that_hangs_is_killed_when_its_time_is_up(folder: Path) -> None:
    ran = called(folder, "#!/bin/sh\ntrap '' TERM INT\necho $$\nsleep 1000\n", Limits(seconds=0.5))
    assert ran.code == TIMED_OUT and ran.trouble == "did not end in 0.5 s and was killed"
    assert alive([int(ran.output)]) == []


def test_of_megabytes_the_end_is_kept(folder: Path) -> None:
    ran = called(folder, "#!/bin/sh\nhead -c 20000000 /dev/zero\nprintf '\\033[31mthe end\\n'\n")
    assert ran.code == 0 and ran.written == 20_000_013 and ran.output.endswith("\N{REPLACEMENT CHARACTER}[31mthe end\n")
    assert len(ran.output) <= 300 and "(the end of 20000013 bytes)" in ran.sentence()


def test_a_fork_bomb_ends_and_leaves_nothing(folder: Path) -> None:
    began = time.monotonic()
    called(
        folder,
        "#!/bin/bash\nexec -a fork-bomb-of-a-test bash -c 'b() { b | b & }; b; sleep 1000'\n",
        Limits(seconds=1.0, processes=30),
    )
    assert time.monotonic() - began < 8

    def left(process: Path) -> bool:
        try:
            return b"fork-bomb-of-a-test" in (process / "cmdline").read_bytes()
        except OSError:
            return False

    assert not [each for each in Path("/proc").glob("[0-9]*") if left(each)]


def test_it_is_stopped_on_wish_also_before_it_begins(folder: Path) -> None:
    path, running = hook(folder, "#!/bin/sh\nsleep 1000\n"), Running()
    threading.Timer(0.2, running.stop).start()
    ran = run(path, [], {}, limits=LIMITS, running=running)
    assert ran.stopped and ran.seconds < 3
    again = run(path, [], {}, limits=LIMITS, running=running)
    assert again.stopped and again.trouble == "was stopped before it began"


def test_a_signal_that_kills_it_is_named(folder: Path) -> None:
    ran = called(folder, "#!/bin/sh\nkill -SEGV $$\n")
    assert (ran.code, ran.trouble) == (139, "was killed by SIGSEGV")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("#!/no/such/shell\n", "the interpreter that its first line names is not there"),
        ("echo hello\n", "its first line names no interpreter"),
    ],
)
def test_one_that_can_not_be_begun_says_why(folder: Path, text: str, why: str) -> None:
    ran = called(folder, text)
    assert ran.code == NOT_RUN and why in ran.trouble


def test_one_that_has_vanished_says_so(folder: Path) -> None:
    ran = run(folder / "gone", [], {}, limits=LIMITS)
    assert ran.code == NOT_RUN and "it is there no more" in ran.trouble


def test_only_what_its_owner_alone_can_write_may_be_run(folder: Path) -> None:
    path = hook(folder, "#!/bin/sh\n")
    assert refusal(path) == ""
    for mode, why in ((0o775, "chmod go-w"), (0o757, "chmod go-w"), (0o644, "chmod +x")):
        path.chmod(mode)
        assert why in refusal(path)
    path.chmod(0o755)
    folder.chmod(0o777)
    assert "the folder of hooks" in refusal(path)
    folder.chmod(0o755)
    (folder / "sub").mkdir()
    assert "is no file" in refusal(folder / "sub")
    assert "can not be looked at" in refusal(folder / "gone")
    if os.geteuid() == 0:
        os.chown(path, 12345, 0)
        assert "belongs to user 12345" in refusal(path)


def test_a_folder_is_looked_at_again_when_it_changes(folder: Path) -> None:
    looked = Folder(folder)
    assert looked.names() == ()
    hook(folder, "", "b")
    hook(folder, "", "a")
    hook(folder, "", "a~")
    hook(folder, "", ".hidden")
    assert looked.names() == ("a", "b") and looked.find("b") == folder / "b" and looked.find("c") is None
    (folder / "a").unlink()
    assert looked.names() == ("b",)
    assert Folder(folder / "none").names() == ()


def test_a_folder_that_rests_is_not_listed_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook(folder, "", "a")
    os.utime(folder, (1.0, 1.0))
    looked = Folder(folder)
    assert looked.names() == ("a",)
    monkeypatch.setattr(looked, "_list", lambda: pytest.fail("listed"))
    assert looked.names() == ("a",)
