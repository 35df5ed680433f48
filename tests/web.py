"""The web part in this process, for tests of the API: Django with SQL in memory, the fake directory, a broker that only counts.

Import the fixture where it is used: ``from tests.web import Web, web``.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import postgres
from tests.cloud import DATABASE

CONFIG = """
suffix = "dc=test"
database_url = "{database}"
web_url = "http://127.0.0.1:8470"
"""


def _setup() -> None:
    """Django's settings are read once per process: the first test that needs them decides. SQL is in memory, unless the tests are
    told to use PostgreSQL."""
    from django.apps import apps

    if apps.ready:
        return
    data = Path(tempfile.mkdtemp(prefix="vmcloud-web-"))
    (data / "secrets").mkdir()
    url = postgres.shared().url("postgres") if os.environ.get(DATABASE) == "postgres" else "sqlite:///:memory:"
    (data / "config.toml").write_text(CONFIG.format(database=url))
    for part in ("web", "server"):
        secrets = {"secret_key": "only a test", "directory_password": "-", "broker_password": "-"}
        (data / "secrets" / f"{part}.json").write_text(json.dumps(secrets))
    os.environ["VMCLOUD_DATA"] = str(data)
    os.environ["DJANGO_SETTINGS_MODULE"] = "vmcloud.site.settings"
    import django
    from django.conf import settings

    django.setup()
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.ALLOWED_HOSTS = ["*"]


_DATABASES: list[object] = []


def _database() -> None:
    """Tables of the tests' own, made once per process; each test's changes are rolled back."""
    from django.test.utils import setup_databases

    if not _DATABASES:
        _DATABASES.extend(setup_databases(verbosity=0, interactive=False))


class Broker:
    """Remembers what was woken."""

    def __init__(self) -> None:
        self.woken: list[str] = []

    def wake(self, topic: str) -> bool:
        """Count one wake-up."""
        self.woken.append(topic)
        return True


@dataclass
class Web:
    """What a test of the API needs: a client with an administrator's token, the fakes, and a few objects to ask for."""

    client: Any
    token: str
    directory: Any
    broker: Broker
    images: Path
    extra: dict[str, Any] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Any = None, *, token: str | None = None, **headers: str) -> Any:
        """One request below ``/api/v1``; ``body`` becomes JSON unless it is bytes."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        token = self.token if token is None else token
        if token:
            headers.setdefault("Authorization", f"Bearer {token}")
        return self.client.generic(method, f"/api/v1{path}", raw, content_type="application/json", headers=headers)

    def user(self, name: str, password: str = "secret-of-it") -> str:
        """A user who is no administrator; the token."""
        from django.contrib.auth.models import User

        from vmcloud.fleet.services import accounts

        return accounts.issue(User.objects.create_user(name, password=password), "test")

    def ve(self, name: str, **fields: Any) -> Any:
        """A VE in the read model, as if the watch had shown it."""
        from uuid import uuid4

        from vmcloud.domain.spec import Spec
        from vmcloud.fleet.models import VE

        spec = Spec.parse({"kind": "lxc", "image": "busybox"}).to_json()
        row = {
            "uuid": uuid4(),
            "name": name,
            "project": "main",
            "owner": "admin",
            "kind": "lxc",
            "node": "node-1",
            "desired": "running",
            "generation": 1,
            "spec": spec,
            "image": "busybox",
            "vcpus": 1,
            "memory_mib": 128,
            "observed_state": "running",
            "addresses": ["10.86.0.9"],
            **fields,
        }
        return VE.objects.bulk_create([VE(**row)])[0]


def queries(do: Callable[[], object]) -> int:
    """How many statements the database is sent."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as found:
        do()
    return len(found)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Web]:
    """A web part with node ``node-1`` (lxc and simulated, 1 GiB), image ``busybox`` and administrator ``admin``."""
    _setup()
    from dataclasses import replace

    from django.conf import settings
    from django.contrib.auth.models import User
    from django.db import connection, transaction
    from django.test.client import Client

    from vmcloud.directory.fake import FakeDirectory
    from vmcloud.fleet import ports
    from vmcloud.fleet.models import Image, Lease, Liveness, Node
    from vmcloud.fleet.services import accounts, audit, logins

    _database()
    directory, broker = FakeDirectory(), Broker()
    monkeypatch.setattr(ports, "directory", lambda: directory)
    monkeypatch.setattr(ports, "sender", lambda: broker)
    monkeypatch.setattr(connection, "close", lambda: None)  # a test is one transaction, so one connection
    monkeypatch.setattr(audit, "_gatherer", audit.Gatherer())
    monkeypatch.setattr(audit, "begin", lambda: None)  # its thread would write for ever, beside that transaction
    cloud = replace(settings.CLOUD, data=tmp_path)
    monkeypatch.setattr(ports, "cloud", lambda: cloud)
    monkeypatch.setattr(logins, "PER_USER", logins.RateLimit(10, 60.0))
    monkeypatch.setattr(logins, "PER_ADDRESS", logins.RateLimit(30, 60.0))
    with transaction.atomic():
        if connection.vendor == "postgresql":
            connection.cursor().execute("ALTER SEQUENCE fleet_job_id_seq RESTART")  # a rollback gives no numbers back
        node = Node(name="node-1", kinds=["lxc", "simulated"], cpus=4, memory_mib=1024, disk_mib=10240, software="0.1.0")
        Node.objects.bulk_create([node])
        Liveness.objects.create(node="node-1", heard_at=time.time())
        # Somebody leads and has listened all the time, so that the silence of a node says something.
        Lease.objects.create(name="server", holder="somebody", epoch=1, expires=time.time() + 86400.0, listens_since=1.0)
        Image.objects.bulk_create([Image(name="busybox", kind="lxc", sha256="0" * 64, size=1)])
        admin = User.objects.create_superuser("admin", password="secret-of-admin")
        yield Web(Client(raise_request_exception=False), accounts.issue(admin, "test"), directory, broker, cloud.images)
        transaction.set_rollback(True)
