"""What an item of a list must be to be looked at: bounded in size, UTF-8, JSON, and a task message as :func:`item` makes it.

Pure, and the standard library only: nothing that a sender names (a codec, a compression, a content type, a type of kombu's JSON)
chooses the code that reads it.
"""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import uuid4

ITEM_MAX = 8 << 20
"""Most bytes of an item. The longest thing that a node says is its full list, some 400 bytes for a guest and 100 more for each
snapshot, and a third more as base64: 8 MiB are more than 10,000 guests, or 1,500 with all the snapshots that they may have. The
same as JSON of nothing but brackets is 200 MB of Python objects, for a moment."""

HEADERS = ("lang", "task", "id", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin")
"""Headers of a Celery task message that are kept."""
HEADER_MAX = 255
DELIVERIES = "deliveries"
"""The header that counts processes which ended while they had the message in hand. A sender can do no more with it than have its
own message set aside earlier."""
DELIVERIES_MAX = 3
"""After so many such processes a message is set aside."""
TASKS = "vmcloud."
"""What the names of our tasks begin with."""

UNFIT = (ValueError, TypeError, RecursionError, MemoryError)
"""What :func:`judged` raises over an item that is none."""


def item(task: str, argument: object) -> bytes:
    """What stands on a list: a task message with one argument as Celery makes it (docs.celeryq.dev, message protocol 2), with
    those of its headers that the other end keeps. Made here because Celery and kombu take ten times as long for it. ValueError
    for one that nobody would look at."""
    number = str(uuid4())
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = json.dumps([[argument], {}, embed], separators=(",", ":")).encode()
    message = {
        "body": base64.b64encode(body).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": task,
            "id": number,
            "root_id": number,
            "parent_id": None,
            "argsrepr": "-",
            "kwargsrepr": "{}",
            "origin": "vmcloud",
        },
        "properties": {
            "correlation_id": number,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": ""},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": number,
        },
    }
    made = json.dumps(message, separators=(",", ":")).encode()
    if len(made) > ITEM_MAX:
        raise ValueError(f"a message of {len(made)} bytes is too long to be sent: {ITEM_MAX} are heard")
    return made


def judged(item: bytes, name: str) -> dict[str, Any]:
    """The message in an item of the list ``name``, with nothing in it that its sender must not choose.

    Beside it, as ``parsed``, what its body says, so that nobody need decode that again. Raises one of :data:`UNFIT`.
    """
    if len(item) > ITEM_MAX:
        raise ValueError(f"it has {len(item)} bytes, {ITEM_MAX} are allowed")
    message = decode(item)
    if not isinstance(message, dict) or not isinstance(message.get("body"), str):
        raise ValueError("it has no body")
    properties, headers = message.get("properties"), message.get("headers")
    if not isinstance(properties, dict) or not isinstance(headers, dict):
        raise ValueError("it has no properties or no headers")
    form = (message.get("content-type"), message.get("content-encoding"), properties.get("body_encoding"))
    if form != ("application/json", "utf-8", "base64"):
        raise ValueError("it is not said to be JSON in UTF-8 in base64")
    kept = {key: headers[key] for key in HEADERS if isinstance(headers.get(key), str) and len(headers[key]) <= HEADER_MAX}
    if not kept.get("task", "").startswith(TASKS):
        raise ValueError("it is for no task of ours")
    parsed = decode(base64.b64decode(message["body"], validate=True))
    _check(parsed)
    return {
        "parsed": parsed,
        "body": message["body"],
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {**kept, DELIVERIES: deliveries(headers)},
        "properties": {
            "body_encoding": "base64",
            "correlation_id": kept.get("id", ""),
            "delivery_mode": 2,
            "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": name},
            "delivery_tag": str(uuid4()),
        },
    }


def decode(data: bytes | str) -> Any:
    """Plain JSON in UTF-8. ValueError, RecursionError."""
    text = data if isinstance(data, str) else bytes(data).decode("utf-8")
    # A hook makes decoding five times as slow: it is for what may have reason to fear one.
    suspect = "__type__" in text or ("\\" in text and "\\u005f" in text.lower())
    return (_CAREFUL if suspect else _DECODER).decode(text)


def deliveries(headers: dict[str, Any]) -> int:
    """How often the message was counted; 0 where that is no sound number."""
    count = headers.get(DELIVERIES)
    return count if type(count) is int and 0 <= count < DELIVERIES_MAX else 0


def _check(body: Any) -> None:
    """Refuse a body that is not one argument and nothing else: Celery would publish, with the consumer's rights, what
    ``callbacks`` and their like name."""
    if not isinstance(body, list) or len(body) != 3:
        raise ValueError("its body is no task's")
    arguments, keywords, embed = body
    if not isinstance(arguments, list) or len(arguments) != 1:
        raise ValueError("it has not one argument")
    if keywords != {} or not isinstance(embed, dict) or any(value is not None for value in embed.values()):
        raise ValueError("it has more than an argument")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    if "__type__" in found:
        raise ValueError("it has an object that kombu would make something else of")
    return found


_DECODER = json.JSONDecoder(parse_constant=_refuse)
_CAREFUL = json.JSONDecoder(parse_constant=_refuse, object_hook=_plain)
