"""Whether a site's hooks would be run. Each check yields (name, OK | WARN | FAIL, detail, fix)."""

from __future__ import annotations

import pwd
from collections.abc import Iterator
from pathlib import Path

from vmcloud.config import Config
from vmcloud.domain.happenings import TYPES
from vmcloud.hooks.files import ALL, SUBMIT, Folder, trouble

from . import layout

Found = Iterator[tuple[str, str, str, str]]
ON_NODES = ("prologue", "epilogue")


def hooks(data: Path, config: Config | None) -> Found:
    """Each hook belongs to whom it must, may be executed, and has a name under which it is called."""
    if config is None:
        return
    count, bad = 0, []
    for path, owners, why in _all(config):
        count += 1
        said, fix = (why, "") if why else trouble(path, owners)
        if said:
            bad.append((said, fix))
    for detail, fix in bad:
        yield "hooks", "WARN", detail, fix
    if not bad:
        yield "hooks", "OK", f"{count or 'none'}", ""


def _all(config: Config) -> Iterator[tuple[Path, tuple[int, ...], str]]:
    """Every hook with who may own it, and what is wrong with its name."""
    server = Folder(config.hook_folder)
    for name in server.names():
        yield (
            server.path / name,
            _owners(config, "web"),
            "" if name == SUBMIT else f"{server.path / name} is never called; the filter is {SUBMIT}",
        )
    for name in server.folders():
        known = name in (*TYPES, ALL)
        why = "" if known else f"{server.path / name} is never called: no type of events has this name"
        yield from ((path, _owners(config, "server"), why) for path in Folder(server.path / name).all())
    for node in config.node.names:
        folder = Folder(config.node_home(node) / "hooks")
        for name in folder.names():
            known = name in ON_NODES
            yield (
                folder.path / name,
                (0,),
                "" if known else f"{folder.path / name} is never called; known are {' and '.join(ON_NODES)}",
            )


def _owners(config: Config, part: str) -> tuple[int, ...]:
    """Who may own a hook that a part calls: root, and the user that the part runs as."""
    user = config.user_of(part)
    return (0, pwd.getpwnam(user).pw_uid) if layout.exists(user) else (0,)
