"""The programs that run in simulated guests, and what they see of their guest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vmcloud.domain.vocabulary import Observed

from .shell import Machine, SimulatedSession
from .store import Store


class Programs:
    """Those that were begun by one driver. They end when their guest does."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sessions: dict[str, list[SimulatedSession]] = {}

    def begin(self, native: str, argv: Sequence[str] | None, environment: Mapping[str, str], *, tty: bool) -> SimulatedSession:
        """Start one; ``argv`` None is the console's shell."""
        session = SimulatedSession(Inside(self._store, self, native), argv, environment, tty=tty)
        with self._store.changed:
            self._sessions[native] = [*self.of(native), session]
        session.begin()
        return session

    def of(self, native: str) -> list[SimulatedSession]:
        """Those that run in a guest."""
        with self._store.changed:
            return [each for each in self._sessions.get(native, ()) if each.running]

    def end(self, native: str) -> None:
        """The guest runs no more."""
        with self._store.changed:
            sessions = self._sessions.pop(native, [])
        for session in sessions:
            session.drop()


class Inside(Machine):
    """A guest as its own programs see it."""

    def __init__(self, store: Store, programs: Programs, native: str) -> None:
        self._store, self._programs, self._native = store, programs, native
        self.name = host_name(native)

    @property
    def running(self) -> bool:
        record = self._store.get(self._native)
        return record is not None and record.seen.state is Observed.RUNNING

    @property
    def processes(self) -> Sequence[str]:
        return [each.title for each in self._programs.of(self._native)]

    def files(self) -> Mapping[str, bytes]:
        return self._store.files(self._native)

    def write(self, path: str, content: bytes) -> None:
        self._store.write_file(self._native, path, content)

    def remove(self, path: str) -> bool:
        return self._store.remove_file(self._native, path)

    def power_off(self) -> None:
        with self._store.change():
            record = self._store.get(self._native)
            if record is not None:
                self._store.arrive(record, Observed.STOPPED)
        self._programs.end(self._native)


def host_name(native: str) -> str:
    """The name in a native name."""
    return native.rpartition("-")[0] or native
