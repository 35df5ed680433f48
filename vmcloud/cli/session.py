"""``vmcloud ve exec|console|logs``: sessions with VEs, over a websocket of the web part."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from vmcloud.domain.errors import Invalid, Problem
from vmcloud.domain.session import CHUNK, MESSAGE_MAX, PING_SECONDS, SUBPROTOCOL, Channel, Frame, Status, window

from .common import Name, client, complain, finish, names, project_option, say
from .errors import FAILED, INTERRUPTED, OK, CliError, Refused, Unreachable, printable
from .rest import Client, segment

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

NOT_RUN = 125
"""Exit code of ``exec`` where the program was not run at all or its end is not known (as env(1) and docker(1) do it)."""
ESCAPE = b"\x1d"
"""Control-]: leaves a console, as in telnet(1) and virsh(1)."""
OPEN_SECONDS = 30.0
SILENCE = 1.0
"""A console on which nothing was said for so long after the end of our input (a pipe's) is left."""

ve_name = click.argument("name", type=Name(), metavar="NAME", shell_complete=names("/ves"))


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.option(
    "-t/-T", "--tty/--no-tty", "wants_tty", default=None, help="On a terminal of its own (default: where you have one)."
)
@click.option("-n", "--no-stdin", is_flag=True, help="Give it no input: for loops over a list that is read from standard input.")
@click.option("-e", "--env", "variables", multiple=True, metavar="NAME=VALUE", help="Set a variable; may be repeated.")
@project_option
@ve_name
@click.argument("command", nargs=-1, required=True, metavar="[--] COMMAND...", type=click.UNPROCESSED)
def exec_(
    name: str, command: tuple[str, ...], wants_tty: bool | None, no_stdin: bool, variables: tuple[str, ...], project: str
) -> None:
    """Run a program inside a running VE, as its root. Its exit code becomes that of this command; 125 means that it was not run,
    or that the connection broke.

    No shell reads the words of COMMAND; for one, ask for it: sh -c '...'.

    \b
    Examples:
      vmcloud ve exec web-1 -- sh
      vmcloud ve exec web-1 -- sh -c 'df -h | head'
      vmcloud ve exec -e LANG=C web-1 -- tar -c /etc > etc.tar
      vmcloud ve exec web-1 -- sh -c 'cat > /root/key' < key
    """
    # What follows the name is the program's, options too; so a -- in front of it comes here.
    if command[0] == "--":
        command = command[1:]
    elif command[0].startswith("-"):
        text = f"no program was given before {command[0]!r}: options of exec come before NAME, a program like that after --"
        raise click.UsageError(text, click.get_current_context())
    if not command:
        raise click.UsageError("no program was given", click.get_current_context())
    no_stdin = no_stdin or sys.stdin is None
    terminal = not no_stdin and _on_terminal()
    on_tty = terminal if wants_tty is None else wants_tty
    body = {"argv": list(command), "environment": _variables(variables), "tty": on_tty}
    try:
        code = _session(name, "exec", body, project, raw=on_tty and terminal, stdin=not no_stdin)
    except CliError as error:
        complain(error)
        code = NOT_RUN
    finish(code)


@click.command()
@project_option
@ve_name
def console(name: str, project: str) -> None:
    """Open the console of a running VE. Control-] leaves it; what runs on it runs on.

    \b
    Examples:
      vmcloud ve console web-1
      echo uptime | vmcloud ve console web-1
    """
    raw = _on_terminal()
    if raw:
        say(f"Connected to the console of {name}. Leave with Control-], wake it with Enter.")
    code = _session(name, "console", {}, project, raw=raw, stdin=True)
    if raw:
        say("\nLeft the console.")
    finish(code)


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Tell also what is added, until Control-C.")
@project_option
@ve_name
def logs(name: str, follow: bool, project: str) -> None:
    """Print what a VE has written to its console since its last start.

    \b
    Examples:
      vmcloud ve logs web-1
      vmcloud ve logs web-1 --follow
    """
    finish(_session(name, "logs", {"follow": follow} if follow else {}, project, raw=False, stdin=False))


def _on_terminal() -> bool:
    """Whether a person is there; Python has no file for a descriptor that was closed before it began."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def _variables(given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--env {each!r} is not NAME=VALUE", click.get_current_context())
        found[name] = value
    return found


def _session(name: str, verb: str, body: dict[str, Any], project: str, *, raw: bool, stdin: bool) -> int:
    """Ask for a session, hold it to its end, and say how it ended: the exit code. Raises :class:`CliError`."""
    api = client()
    job = api.act("POST", "/ves" + segment(name) + f"/{verb}", body, query={"project": project}, key=os.urandom(16).hex())
    with _connected(api, job["id"]) as line:
        talk = _Talk(line, raw=raw, endless=verb == "console")
        if verb == "exec" and not stdin:
            talk.end_input()
        return talk.hold(stdin)


@contextlib.contextmanager
def _connected(api: Client, job: int) -> Iterator[ClientConnection]:
    from websockets.exceptions import InvalidHandshake, InvalidStatus
    from websockets.sync.client import connect
    from websockets.typing import Subprotocol

    url = f"ws{api.url.removeprefix('http')}/api/v1/sessions/{job}"
    try:
        line = connect(
            url,
            additional_headers=api.credentials(),
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            open_timeout=OPEN_SECONDS,
            max_size=MESSAGE_MAX,
            ping_interval=PING_SECONDS,
            ping_timeout=None,
            compression=None,
        )
    except InvalidStatus as error:
        raise _refusal(error.response.status_code, bytes(error.response.body or b"")) from error
    except (OSError, InvalidHandshake, TimeoutError) as error:
        raise Unreachable.say(
            f"no session is to be had at {url}",
            why=str(error) or "no answer",
            todo="A proxy in between must let websockets through.",
        ) from error
    with line:
        yield line


def _refusal(status: int, body: bytes) -> CliError:
    try:
        return Refused(Problem.from_json(json.loads(body)), status)
    except (ValueError, AttributeError):
        return Unreachable.say("the session was refused", why=f"HTTP status {status}")


def _broken(error: Exception | None = None) -> CliError:
    why = str(error) if isinstance(error, Invalid) else "the connection to vmcloud has ended; the program ends with it"
    return CliError.say("the session broke off", why=why, todo="See `vmcloud status` on its machine; then ask for a new one.")


class _Talk:
    """Terminal and websocket, joined. The program's output and end are heard here; a thread reads what the person types.
    ``endless``: what is at the other end does not end with our input (a console)."""

    def __init__(self, line: ClientConnection, *, raw: bool, endless: bool) -> None:
        self._line, self._raw, self._endless = line, raw, endless
        self._escape = raw and endless
        self._left, self._heard = threading.Event(), threading.Event()
        self._wake, self._woken = os.pipe()

    def hold(self, stdin: bool) -> int:
        """To the end; the exit code."""
        from websockets.exceptions import ConnectionClosed

        typing = threading.Thread(target=self._type, daemon=True)
        with self._terminal():
            if stdin:
                typing.start()
            try:
                for message in self._line:
                    code = self._hear(Frame.decode(message if isinstance(message, bytes) else message.encode()))
                    if code is not None:
                        return code
            except (ConnectionClosed, Invalid) as error:
                if not self._left.is_set():
                    raise _broken(error) from error
            except BrokenPipeError:  # who reads our output has enough
                return FAILED
            except KeyboardInterrupt:
                return INTERRUPTED
            finally:
                os.close(self._woken)
        if self._left.is_set():
            return OK
        raise _broken()

    def end_input(self) -> None:
        """Let the program read the end of its input."""
        self._line.send(Frame(Channel.CLOSE, bytes((Channel.STDIN,))).encode())

    def _hear(self, frame: Frame) -> int | None:
        """Do what a frame says; the exit code if it is the last."""
        self._heard.set()
        if frame.channel is Channel.STDOUT:
            _write(sys.stdout.fileno(), frame.data)
        elif frame.channel is Channel.STDERR:
            _write(sys.stderr.fileno(), frame.data)
        elif frame.channel is Channel.STATUS:
            status = Status.decode(frame.data)
            if status.problem is not None:
                raise CliError(status.problem)
            if status.waiting:
                say(f"vmcloud: {printable(status.waiting)}" + ("\r" if self._raw else ""))
            if status.exit_code is not None:
                return status.exit_code if 0 <= status.exit_code < 256 else NOT_RUN
        return None

    def _type(self) -> None:
        """Send what is typed or piped in, until its end or ours."""
        from websockets.exceptions import ConnectionClosed

        descriptor = sys.stdin.fileno()
        with contextlib.suppress(ConnectionClosed, OSError):
            while True:
                ready, _, _ = select.select([descriptor, self._wake], [], [])
                if self._wake in ready:
                    return
                data = os.read(descriptor, CHUNK)
                if not data:
                    self.end_input()
                    if self._endless:
                        self._leave_when_silent()
                    return
                if self._escape and ESCAPE in data:
                    if before := data.partition(ESCAPE)[0]:
                        self._line.send(Frame(Channel.STDIN, before).encode())
                    self._leave()
                    return
                self._line.send(Frame(Channel.STDIN, data).encode())

    def _leave_when_silent(self) -> None:
        while self._heard.wait(SILENCE):
            self._heard.clear()
        self._leave()

    def _leave(self) -> None:
        self._left.set()
        self._line.close()

    @contextlib.contextmanager
    def _terminal(self) -> Iterator[None]:
        """Our terminal in raw mode, its size told at once and whenever it changes; as it was afterwards, whatever happens."""
        if not self._raw:
            yield
            return
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
        previous = signal.signal(signal.SIGWINCH, lambda *_: self._tell_size())
        try:
            tty.setraw(descriptor)
            self._tell_size()
            yield
        finally:
            termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
            signal.signal(signal.SIGWINCH, previous)

    def _tell_size(self) -> None:
        from websockets.exceptions import ConnectionClosed

        with contextlib.suppress(ConnectionClosed, OSError):
            size = os.get_terminal_size(sys.stdin.fileno())
            self._line.send(window(max(size.lines, 1), max(size.columns, 1)))


def _write(descriptor: int, data: bytes) -> None:
    """All of it, as it is: no codec and no buffer of Python's in between."""
    while data:
        data = data[os.write(descriptor, data) :]
