"""Errors in few words, help, completion."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any

import pytest

from tests.cli_kit import Answer, Cloud, Run, cloud, run, ve
from vmcloud.cli import rest
from vmcloud.cli.main import main

pytestmark = pytest.mark.unit
__all__ = ["cloud", "run"]


# ---------------------------------------------------------------------------------------------------------------- errors


def test_nobody_answers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("VMCLOUD_URL", url)
    for arguments in (("ve", "list"), ("ve", "start", "a", "b"), ("job", "show", "1")):
        code, out, err = run(*arguments)
        assert (code, out) == (3, "")
        assert (
            err.splitlines()[0] == f"vmcloud: no vmcloud answers at {url}" and "vmcloud up" in err and len(err.splitlines()) == 3
        )


def test_where_another_machine_is_silent_nothing_is_started_here(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMCLOUD_URL", "http://cloud.invalid:8470")
    code, _, err = run("ve", "list")
    assert code == 3 and "vmcloud up" not in err and "on that machine" in err


@pytest.mark.parametrize("answer", [(200, b"<html>"), (502, b"Bad gateway"), (200, []), (302, b"")])
def test_something_else_answers(cloud: Cloud, run: Run, answer: Answer) -> None:
    cloud.answers["GET /ves"] = answer
    code, out, err = run("ve", "list")
    assert (code, out) == (3, "") and "not as a vmcloud does" in err


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "http://", "http://x:port", "http://[::1"])
def test_an_address_that_is_none(run: Run, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("VMCLOUD_URL", url)
    code, _, err = run("ve", "list")
    assert code == 1 and "is no address of a vmcloud" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("vee",),
        ("ve", "lst"),
        ("ve", "start"),
        ("ve", "create", "x"),
        ("ve", "create", "x", "-i", "busybox", "-m", "lots"),
        ("ve", "create", "x", "-i", "busybox", "-k", "vmware"),
        ("ve", "create", "x", "-i", "busybox", "--vcpus", "two"),
        ("ve", "resize", "x"),
        ("ve", "alter", "x"),
        ("ve", "list", "-o", "xml"),
        ("ve", "list", "--colour"),
        ("job", "show", "first"),
        ("ve", "show", ""),
        ("ve", "show", "a/b"),
        ("ve", "start", "../a;b"),
        ("ve", "start", "a" * 64),
        ("ve", "create", "x", "-i", "busybox", "-m", "9" * 400 + "T"),
        ("job", "list", "--verb", "foo"),
        ("job", "cancel", "-1"),
        ("job", "wait", "1", "--timeout", "soon"),
    ],
)
def test_a_wrong_command_line_is_exit_2_with_a_hint(cloud: Cloud, run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "") and err.startswith("vmcloud: ") and "--help`" in err and len(err.splitlines()) <= 4
    assert cloud.asked == []


def test_a_verb_without_its_group_is_guessed(run: Run) -> None:
    assert "Did you mean 've resize'?" in run("resize", "web")[2]
    assert all(f"'{group} show'" in run("show", "web")[2] for group in ("ve", "node", "job"))


@pytest.mark.parametrize("arguments", [("--vm", "web"), ("web",), ("web", "--"), ("web", "--tty", "sh")])
def test_exec_says_where_options_go(cloud: Cloud, run: Run, arguments: tuple[str, ...]) -> None:
    code, _, err = run("ve", "exec", *arguments)
    assert code == 2 and "vmcloud: " in err and cloud.asked == []


def test_a_defect_of_ours_is_no_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(rest.Client, "request", broken)
    code, out, err = run("ve", "list")
    assert (code, out) == (1, "") and "internal error: ZeroDivisionError: oops" in err and "VMCLOUD_DEBUG=1" in err


def test_a_reader_who_has_seen_enough_is_no_error(cloud: Cloud) -> None:
    cloud.answers["GET /ves"] = {"items": [ve(f"ve-{number}") for number in range(5000)], "next": None}
    line = f"{sys.executable} -m vmcloud.cli ve list | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("NAME")


# ------------------------------------------------------------------------------------------------------ help, completion


def _every_command() -> list[tuple[str, ...]]:
    import click

    from vmcloud.cli.main import COMMANDS, cli

    found: list[tuple[str, ...]] = []
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None, name
        found.append((name,))
        if isinstance(command, click.Group):
            found += [(name, each) for each in command.commands]
    return found


@pytest.mark.parametrize("arguments", _every_command(), ids=" ".join)
def test_every_command_has_help_with_examples(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments, "--help")
    assert (code, err) == (0, "") and out.startswith(f"Usage: vmcloud {' '.join(arguments)}")
    if len(arguments) == 2 or arguments[0] not in ("ve", "node", "kind", "image", "job"):
        assert "Examples:" in out


def test_names_complete_through_the_api(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.answers["GET /ves"] = {"items": [ve("web-1"), ve("web-2"), ve("db-1")], "next": None}
    monkeypatch.setenv("_VMCLOUD_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "vmcloud ve start web-1 we")
    monkeypatch.setenv("COMP_CWORD", "4")
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().out == "plain,web-2\n"
    monkeypatch.setenv("VMCLOUD_URL", "http://127.0.0.1:1")
    with pytest.raises(SystemExit):
        main([])
    out, err = capsys.readouterr()
    assert (out.strip(), err) == ("", "")


def test_completion_tells_the_line_to_add(run: Run) -> None:
    assert run("completion", "bash")[1] == 'eval "$(_VMCLOUD_COMPLETE=bash_source vmcloud)"\n'


def test_a_list_imports_neither_django_nor_anything_slow(cloud: Cloud) -> None:
    cloud.answers["GET /ves"] = {"items": [ve("a")], "next": None}
    code = (
        "import sys; from vmcloud.cli.main import main; main(['ve', 'list']);"
        "slow = {'django', 'yaml', 'asyncio', 'ldap', 'celery', 'cryptography', 'importlib.metadata'};"
        "print(sorted(slow & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == "[]\n"
