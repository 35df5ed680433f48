"""The broker's users: who may read and write which list (Redis ACL, redis.io/docs/management/security/acl).

A node can read its own list and write its two; it can not read, write or even see another's. Selectors (in brackets) bind a
command to keys and need Redis 7. No user may make or change users: they are written to the broker's file by `vmcloud up`, as root
of its machine. What root's own part does there, the user ``supervisor`` may: read what was denied, and keep lists in bounds.
"""

from __future__ import annotations

import hashlib

_CONNECT = "+hello +auth +ping +select +client|setname +multi +exec +discard +watch +unwatch"
_CONSUME = "+brpop +lpush +rpush +zadd +zrem +hset +hdel +hget +hkeys"
SUPERVISOR = "supervisor"


def _own(identity: str) -> str:
    return f"~unacked.{identity} ~unacked_index.{identity}"


def _dead(identity: str) -> str:
    return f"(+lpush +ltrim +expire %W~dead.{identity})"


def rules(identity: str) -> str:
    """The ACL rules of one identity, without its name and password. ValueError for an identity that has no user."""
    if identity == "server":
        return (
            f"{_CONNECT} ~server ~server.* {_own(identity)} {_CONSUME} "
            f"(+lpush %W~node.*) (+lpush %W~monitor) (+llen %R~monitor.*) {_dead(identity)}"
        )
    if identity == SUPERVISOR:
        return f"{_CONNECT} ~* +acl|log +info +scan +type +llen +lrange +ltrim +del +memory|usage +client|list +client|kill"
    if identity == "monitor":
        return f"{_CONNECT} ~monitor ~monitor.* {_own(identity)} {_CONSUME} {_dead(identity)}"
    if identity == "web":
        return f"{_CONNECT} (+lpush %W~server)"
    if identity.startswith("node-"):
        node = identity.removeprefix("node-")
        lists = f"(+lpush %W~monitor.{node}) (+lpush %W~server.{node})"
        return f"{_CONNECT} ~node.{node} {_own(identity)} {_CONSUME} {lists} {_dead(identity)}"
    raise ValueError(f"identity {identity!r} has no broker user")


def user_line(identity: str, password: str) -> str:
    """One line of the ACL file; the password only as its SHA-256."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    return f"user {identity} on #{digest} resetkeys resetchannels -@all {rules(identity)}"


NOBODY = "user default off resetpass ~* &* +@all"
"""Nobody can be the default user. It keeps its rights though it is off: Redis 7.0 replays the transactions of its append-only
file as that user, and would drop them at each start."""


def acl_file(passwords: dict[str, str]) -> str:
    """The whole ACL file: the default user off, one line per identity."""
    lines = [NOBODY, *(user_line(identity, password) for identity, password in sorted(passwords.items()))]
    return "\n".join(lines) + "\n"
