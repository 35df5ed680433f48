"""What this cloud itself must have in order. Each check yields (name, OK | WARN | FAIL, detail, fix)."""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import vmcloud
from vmcloud.config import DEFAULT_DATA, Config
from vmcloud.dispatch.acl import SUPERVISOR
from vmcloud.dispatch.judge import DELIVERIES_MAX

from . import database as job_database
from . import directory, layout, prepare, report, secrets, settings, status
from .parts import address

Found = Iterator[tuple[str, str, str, str]]


def users(data: Path, config: Config | None) -> Found:
    """The users that the parts run as."""
    if os.geteuid() != 0 and config is not None and data.stat().st_uid == os.geteuid():
        yield "users", "OK", "all parts run as you", ""
        return
    for name in layout.users((config or Config(data=data)).user):
        if layout.exists(name):
            yield f"user {name}", "OK", "exists", ""
        else:
            fix = f"useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {name}  (vmcloud up does it)"
            yield f"user {name}", "WARN", "is missing", fix


def interpreter(data: Path, config: Config | None) -> Found:
    """Other users can reach the interpreter and the source."""
    for path in (Path(sys.executable).resolve(), Path(sys.executable), Path(vmcloud.__file__).resolve().parent):
        closed = layout.reachable(path)
        if closed is not None:
            yield "interpreter", "FAIL", f"other users can not reach {path}", f"chmod o+x {closed}"
            return
    version = ".".join(str(part) for part in sys.version_info[:3])
    yield "interpreter", "OK", f"{sys.executable} ({version})", ""


def secret_files(data: Path, config: Config | None) -> Found:
    """Secrets are readable by their own user only."""
    if config is None:
        yield "cloud", "OK", f"none in {data} yet: vmcloud up makes it", ""
        return
    identities = [*secrets.CENTRAL, SUPERVISOR, *(f"node-{name}" for name in config.node.names)]
    bad = []
    for identity in identities:
        path = secrets.path(data, identity)
        owner = secrets.owner(config.user, identity)
        if not path.exists():
            bad.append((f"{path} is missing", "vmcloud down; vmcloud up --detach"))
        elif path.stat().st_mode & 0o077:
            bad.append((f"others can read {path}", f"chmod 600 {path}"))
        elif os.geteuid() == 0 and pwd.getpwuid(path.stat().st_uid).pw_name != owner:
            bad.append((f"{path} does not belong to {owner}", f"chown {owner}: {path}"))
    for detail, fix in bad:
        yield "secrets", "FAIL", detail, fix
    if not bad:
        yield "secrets", "OK", f"{len(identities)} files, each readable by its own user only", ""


def database(data: Path, config: Config | None) -> Found:
    """The job database takes this release's parts."""
    if config is None or not config.database_url:
        return
    place = urlsplit(config.database_url)
    name = f"{place.scheme}://{place.hostname or ''}{place.path}"
    for why in job_database.examine(config):
        fix = f"see database_url in {data / 'config.toml'} and the password in {config.passfile}; docs/operate.md has the steps"
        yield "job database", "FAIL", f"{name}: {why}", fix
        return
    yield "job database", "OK", name, ""


def ports(data: Path, config: Config | None) -> Found:
    """Ports are free, or held by our own parts."""
    if config is None:
        taken = [port for port in settings.PORTS.values() if settings.port_taken(port)]
        text = f"{', '.join(map(str, taken))} taken: the next free ones will be used" if taken else "free"
        yield "ports", "OK", text, ""
        return
    said = status.read(data)
    up = {part.name for part in said.parts if part.up} if said is not None and said.running else set()
    wanted = {
        "web": config.web_port,
        "broker": address(config.broker_url, 6379)[1],
        "directory": address(config.directory_uri, 389)[1],
    }
    for part, port in wanted.items():
        if part in up:
            yield f"port {port} ({part})", "OK", "ours", ""
        elif settings.port_taken(port):
            fix = f"ss -ltnp 'sport = :{port}'; stop that program, or change the port in {data / 'config.toml'}"
            yield f"port {port} ({part})", "FAIL", "taken by another program", fix
        else:
            yield f"port {port} ({part})", "OK", "free", ""


def running(data: Path, config: Config | None) -> Found:
    """The parts do what they should."""
    if config is None:
        return
    found = report.collect(config)
    flag = "" if data == DEFAULT_DATA else f" --data {data}"
    if found.supervisor is None:
        yield "parts", "WARN", "the cloud does not run", f"vmcloud up --detach{flag}"
        return
    down = [f"{row.name} is {row.state}" + (f" ({row.last_exit})" if row.last_exit else "") for row in found.rows if not row.up]
    if down:
        yield (
            "parts",
            "FAIL",
            "; ".join(down),
            f"grep -E '{'|'.join(r.name for r in found.rows if not r.up)}' {data}/log/vmcloud.log",
        )
    else:
        yield "parts", "OK", f"{len(found.rows)} up", ""


def refusals(data: Path, config: Config | None) -> Found:
    """Nobody is refused again and again just now."""
    said = status.read(data)
    if config is None or said is None or not any(part.name == "web" and part.up for part in said.parts):
        return
    token = (data / "secrets" / prepare.ADMIN_TOKEN).read_text().strip()
    asked = Request(f"{config.web_url}/api/v1/audit/recent", headers={"Authorization": f"Bearer {token}"})
    try:
        with urlopen(asked, timeout=5.0) as answer:
            burst = str(json.load(answer)["burst"])
    except (OSError, ValueError, KeyError) as error:
        yield "refusals", "WARN", f"the web part does not tell: {error}", "vmcloud status"
        return
    if burst:
        yield "refusals", "WARN", burst, "vmcloud audit list --denied"
    else:
        yield "refusals", "OK", "no burst", ""


def messages(data: Path, config: Config | None) -> Found:
    """No message was set aside because processes ended while they had it in hand."""
    said = status.read(data)
    if config is None or said is None or not said.running:
        return
    found = ", ".join(f"{count} in {name}" for name, count in sorted(said.dead.items()) if count)
    if not found:
        yield "messages", "OK", "none was set aside", ""
        return
    detail = f"set aside after {DELIVERIES_MAX} ends of who had them in hand: {found}; each is forgotten after a week"
    yield "messages", "WARN", detail, f"grep 'message .* ended while' {data}/log/vmcloud.log; report what it shows"


def versions(data: Path, config: Config | None) -> Found:
    """The directory's tree has this release's version."""
    said = status.read(data)
    if config is None or said is None or not said.running or os.geteuid() != 0:
        return
    if not any(part.name == "directory" and part.up for part in said.parts):
        return
    from ldap_schema import tree
    from vmcloud.directory.client import Client, Settings

    client = Client(Settings(directory.ldapi(config)))
    try:
        (_, entry), *_ = client.search(f"cn=schema,{config.suffix}", deep=False, attributes=("vmcTreeVersion",))
        version = int(entry["vmcTreeVersion"][0])
    finally:
        client.close()
    if version == tree.TREE_VERSION:
        yield "schema version", "OK", str(version), ""
    elif version < tree.TREE_VERSION:
        fix = "vmcloud down; vmcloud up --detach"
        yield "schema version", "FAIL", f"the directory has {version}, this release needs {tree.TREE_VERSION}", fix
    else:
        yield (
            "schema version",
            "FAIL",
            f"the directory has {version}, newer than this release's {tree.TREE_VERSION}",
            "install vmcloud anew",
        )


def kinds(data: Path, config: Config | None) -> Found:
    """What the node's drivers need, in their own words."""
    if config is None or config.node.simulate:
        return
    said = status.read(data)
    down = said is None or not said.running
    from vmcloud.domain.vocabulary import Kind
    from workers.drivers.registry import make_driver

    for kind in config.node.kinds:
        try:
            driver = make_driver(Kind(kind), config, config.node.name)
        except (ValueError, LookupError, ImportError) as error:
            yield f"kind {kind}", "FAIL", f"can not be driven: {error}", f"take it out of `kinds` in {data / 'config.toml'}"
            continue
        for check in driver.preflight():
            # The worker makes the bridge at its start, so that a stopped cloud lacks it is as it should be.
            bad = "WARN" if check.name == "bridge" and down else "FAIL"
            yield f"{kind}: {check.name}", "OK" if check.ok else bad, check.detail, "" if check.ok else check.fix
