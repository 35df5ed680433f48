"""Consoles, programs run in guests, boot logs."""

from __future__ import annotations

import pytest

from vmcloud.domain.vocabulary import Power
from workers.drivers.base import BadRequest, Guest, NoSuchGuest

from .bench import Bench
from .talk import boot, ended, eventually, finish, hang_up, hear, run, shell

pytestmark = pytest.mark.contract

WORDS = ["a;b", "$HOME", "*", "a  b", "'", '"', "\\", "`x`", "$(x)", ">y", "&", "|", "", "--", "é", "#"]


@pytest.mark.power(Power.CONSOLE)
def test_the_console_echoes_and_answers(bench: Bench, running: Guest) -> None:
    console = bench.driver.console(running.native)
    assert console.stderr is None
    try:
        assert hear(console, b"\nweb", say=b"\nhostname\n")
        console.resize(50, 132)
    finally:
        hang_up(console)


@pytest.mark.power(Power.CONSOLE)
def test_a_console_can_be_left_and_opened_again(bench: Bench, running: Guest) -> None:
    for _ in range(3):
        console = bench.driver.console(running.native)
        assert hear(console, b"\nweb", say=b"\nhostname\n")
        hang_up(console)
        ended(console)
        console.hang_up()


@pytest.mark.power(Power.CONSOLE)
def test_a_console_ends_with_its_guest(bench: Bench, running: Guest) -> None:
    console = bench.driver.console(running.native)
    assert hear(console, b"\nweb", say=b"\nhostname\n")
    bench.driver.stop(running.native, force=True)
    assert ended(console) == 0
    hang_up(console)


@pytest.mark.power(Power.CONSOLE)
def test_a_stopped_guest_has_no_console(bench: Bench, made: Guest) -> None:
    with pytest.raises(BadRequest):
        bench.driver.console(made.native)


@pytest.mark.power(Power.CONSOLE, Power.FREEZE)
def test_a_frozen_guest_has_no_console(bench: Bench, running: Guest) -> None:
    bench.driver.freeze(running.native)
    with pytest.raises(BadRequest):
        bench.driver.console(running.native)


@pytest.mark.power(Power.EXEC)
@pytest.mark.parametrize(
    ("argv", "code"),
    [(["true"], 0), (["sh", "-c", "exit 3"], 3), (["no-such-program"], 127), (["/etc/hostname"], 126)],
    ids=["0", "3", "127", "126"],
)
def test_a_program_ends_with_its_own_code(bench: Bench, running: Guest, argv: list[str], code: int) -> None:
    said = run(bench, running, *argv)
    assert (said.code, said.out) == (code, b"")


@pytest.mark.power(Power.EXEC)
def test_what_goes_in_comes_out(bench: Bench, running: Guest) -> None:
    data = bytes(range(256)) * 4096
    said = run(bench, running, "cat", stdin=data)
    assert (said.code, said.err) == (0, b"")
    assert said.out == data


@pytest.mark.power(Power.EXEC)
def test_complaints_come_apart_from_output(bench: Bench, running: Guest) -> None:
    said = run(bench, running, "sh", "-c", "echo out; echo err >&2; exit 4")
    assert (said.code, said.out, said.err) == (4, b"out\n", b"err\n")


@pytest.mark.power(Power.EXEC)
def test_words_arrive_as_they_are(bench: Bench, running: Guest) -> None:
    said = run(bench, running, "echo", *WORDS)
    assert said.out.decode() == " ".join(WORDS) + "\n"


@pytest.mark.power(Power.EXEC)
def test_the_environment_is_a_clean_one_and_what_was_given(bench: Bench, running: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_NODE", "1")
    lines = run(bench, running, "env", environment={"COLOUR": "dark red; $x"}).out.decode().splitlines()
    assert "COLOUR=dark red; $x" in lines
    assert any(line.startswith("PATH=") for line in lines)
    assert not [line for line in lines if line.startswith(("SECRET", "VMCLOUD_TEST", "PYTHON", "VIRTUAL"))]


@pytest.mark.power(Power.EXEC)
def test_a_program_has_a_terminal_only_if_asked_for(bench: Bench, running: Guest) -> None:
    with_one = run(bench, running, "tty", tty=True, stdin=None)
    assert with_one.code == 0 and with_one.out.endswith(b"\r\n")
    assert run(bench, running, "tty").code == 1


@pytest.mark.power(Power.EXEC)
def test_a_program_hears_of_the_size_of_its_terminal(bench: Bench, running: Guest) -> None:
    session = bench.driver.exec(running.native, ["sh", "-c", "sleep 1; stty size"], environment={}, tty=True)
    session.resize(50, 132)
    assert finish(session, None).out.strip() == b"50 132"


@pytest.mark.power(Power.EXEC)
def test_a_terminal_brings_the_code_too(bench: Bench, running: Guest) -> None:
    assert run(bench, running, "sh", "-c", "exit 3", tty=True, stdin=None).code == 3


@pytest.mark.power(Power.EXEC)
@pytest.mark.parametrize("tty", [False, True], ids=["pipes", "terminal"])
def test_hanging_up_ends_the_program_in_the_guest(bench: Bench, running: Guest, tty: bool) -> None:
    session = bench.driver.exec(running.native, ["sleep", "61"], environment={}, tty=tty)
    assert eventually(lambda: b"sleep 61" in run(bench, running, "ps").out)
    session.hang_up()
    assert ended(session) != 0
    assert eventually(lambda: b"sleep 61" not in run(bench, running, "ps").out)
    hang_up(session)


@pytest.mark.power(Power.EXEC)
def test_a_program_ends_with_its_guest(bench: Bench, running: Guest) -> None:
    session = bench.driver.exec(running.native, ["sleep", "61"], environment={}, tty=False)
    bench.driver.stop(running.native, force=True)
    assert ended(session) != 0
    hang_up(session)


@pytest.mark.power(Power.EXEC)
def test_programs_run_side_by_side(bench: Bench, running: Guest) -> None:
    sessions = [bench.driver.exec(running.native, ["cat"], environment={}, tty=False) for _ in range(3)]
    assert [finish(session, b"%d" % number).out for number, session in enumerate(sessions)] == [b"0", b"1", b"2"]


@pytest.mark.power(Power.EXEC)
def test_what_a_program_wrote_is_there_for_the_next_and_after_a_restart(bench: Bench, running: Guest) -> None:
    shell(bench, running, "cat > /root/file", stdin=b"kept")
    assert shell(bench, running, "cat /root/file") == b"kept"
    bench.driver.stop(running.native)
    boot(bench, running)
    assert shell(bench, running, "cat /root/file") == b"kept"


@pytest.mark.power(Power.EXEC)
def test_nothing_is_run_in_a_stopped_or_absent_guest(bench: Bench, made: Guest) -> None:
    with pytest.raises(BadRequest):
        bench.driver.exec(made.native, ["true"], environment={}, tty=False)
    with pytest.raises(NoSuchGuest):
        bench.driver.exec(bench.guest("absent").native, ["true"], environment={}, tty=False)


@pytest.mark.power(Power.EXEC, Power.FREEZE)
def test_nothing_is_run_in_a_frozen_guest(bench: Bench, running: Guest) -> None:
    bench.driver.freeze(running.native)
    with pytest.raises(BadRequest):
        bench.driver.exec(running.native, ["true"], environment={}, tty=False)


@pytest.mark.power(Power.BOOT_LOG)
def test_the_boot_log_says_what_the_guest_said_since_its_last_start(bench: Bench, made: Guest) -> None:
    assert bench.driver.boot_log(made.native) == b""
    for _ in range(2):
        boot(bench, made)
        assert eventually(lambda: bench.driver.boot_log(made.native).count(b"web ready") == 1), bench.driver.boot_log(made.native)
        bench.driver.stop(made.native, force=True)
        assert bench.driver.boot_log(made.native).count(b"web ready") == 1
