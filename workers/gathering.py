"""What is said of a guest whose state changes fast: the first change at once, what follows within a moment together. Pure."""

from __future__ import annotations

from vmcloud.domain.messages import Seen

WINDOW = 0.02
"""Seconds after a word about a guest in which further changes of it are held, and only the last of them is said at the end."""
KEPT = 1000
"""Guests of which it is remembered when they were last spoken of, before old words are forgotten."""


class Gathering:
    """Words about the guests of one node. Times are monotonic seconds, given by the caller, who locks."""

    def __init__(self, window: float = WINDOW) -> None:
        self._window = window
        self._said: dict[str, float] = {}
        self._held: dict[str, Seen] = {}

    def first(self, seen: Seen, now: float) -> bool:
        """Whether to say this at once. If not it is held, in place of what was held of the same guest."""
        if now - self._said.get(seen.native, float("-inf")) >= self._window:
            self.spoken(seen.native, now)
            return True
        self._held[seen.native] = seen
        return False

    def spoken(self, native: str, now: float) -> None:
        """A word about the guest is said, here or by a step that looks at it: what follows is held for a moment."""
        if len(self._said) >= KEPT:
            self._said = {name: when for name, when in self._said.items() if now - when < self._window or name in self._held}
        self._said[native] = now

    def due(self, now: float) -> tuple[Seen, ...]:
        """What has been held for long enough, to be said now, all in one."""
        over = [native for native in self._held if now - self._said[native] >= self._window]
        self._said.update(dict.fromkeys(over, now))
        return tuple(self._held.pop(native) for native in over)

    def next_in(self, now: float) -> float | None:
        """Seconds until something is due; None if nothing is held."""
        if not self._held:
            return None
        return max(0.0, min(self._said[native] for native in self._held) + self._window - now)

    def drop(self, native: str) -> None:
        """Forget what is held of a guest."""
        self._held.pop(native, None)
