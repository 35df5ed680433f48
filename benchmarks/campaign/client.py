"""Who asks: single requests over REST, each of which may be answered, refused, or never answered at all."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 6.0
"""Seconds that an answer may take before it is counted as lost."""
STUBBORN = 40.0
"""Seconds for which a lost or unavailable answer is asked for again."""
PAUSE = 0.4


@dataclass
class Asked:
    """One request for a job under its key, and what became of it. ``answer``: ``taken`` (with the number of the job), ``refused``
    (at its first try, so certainly nothing was made), ``unknown``."""

    key: str
    verb: str
    target: str
    answer: str = "unknown"
    job: int = 0
    status: int = 0
    tries: int = 0
    asked_at: float = field(default_factory=time.time)
    answered_at: float = 0.0
    words: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Answer:
    """Status 0: there was none."""

    status: int
    body: Any = None

    @property
    def lost(self) -> bool:
        """Whether nothing is known of what became of the request; what is just being worked on counts so."""
        busy = self.status == 409 and "just now" in str(self.body)
        return self.status == 0 or self.status >= 500 or busy


class Client:
    """A person with a token. Each request has a connection of its own: several threads may ask."""

    def __init__(self, url: str, token: str) -> None:
        self._place = urlsplit(url).netloc
        self._token = token

    def send(self, method: str, path: str, body: Any = None, *, key: str = "", patience: float = PATIENCE) -> Answer:
        """Ask once."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/octet-stream"
        if key:
            headers["Idempotency-Key"] = key
        line = http.client.HTTPConnection(self._place, timeout=patience)
        try:
            line.request(method, f"/api/v1{path}", data, headers)
            answer = line.getresponse()
            return Answer(answer.status, json.loads(answer.read() or b"null"))
        except (OSError, http.client.HTTPException, ValueError):
            return Answer(0)
        finally:
            line.close()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The body of an answer that must be a success; OSError where it is none."""
        answer = self.send(method, path, body)
        if not 200 <= answer.status < 300:
            raise OSError(f"{method} {path}: {answer}")
        return answer.body

    def settle(self, asked: Asked, method: str, path: str, body: Any, *, stubborn: bool) -> None:
        """Ask for a job; where stubborn, again under the same key until it is answered."""
        until = time.monotonic() + STUBBORN
        while True:
            asked.tries += 1
            answer = self.send(method, path, body, key=asked.key)
            take(asked, answer)
            if not answer.lost or not stubborn or time.monotonic() > until:
                return
            time.sleep(PAUSE)


def take(asked: Asked, answer: Answer) -> None:
    """Note what an answer says."""
    asked.status, asked.answered_at = answer.status, time.time()
    if 200 <= answer.status < 300:
        asked.answer, asked.job = "taken", int(str(answer.body["id"]).removesuffix("[]"))
        return
    asked.words = str(answer.body)[:300]
    if not answer.lost:
        # An earlier try of which nothing was heard may have been taken after this one.
        asked.answer = "refused" if asked.tries == 1 else "unknown"
