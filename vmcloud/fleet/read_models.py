"""The read model: what the directory says, in tables. Written by the leading server's watch only; made anew at any time.

``save()`` and ``delete()`` on its rows raise.
"""

from __future__ import annotations

from typing import Any

from django.db import models


class ReadOnlyError(TypeError):
    """Somebody tried to write the read model; only the server's watch may."""


class ReadModel(models.Model):
    """A projection of directory entries. Written through the manager's bulk methods by ``fleet/server/projection.py`` only."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Refused."""
        raise ReadOnlyError(f"{type(self).__name__} is a read model: change the directory through fleet.services instead")

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Refused."""
        raise ReadOnlyError(f"{type(self).__name__} is a read model: change the directory through fleet.services instead")


class VE(ReadModel):
    """A VE entry as the leader's watch last showed it."""

    uuid = models.UUIDField(primary_key=True)
    name = models.CharField(max_length=63)
    project = models.CharField(max_length=63)
    owner = models.CharField(max_length=150, default="")
    kind = models.CharField(max_length=16)
    node = models.CharField(max_length=63, default="", db_index=True)
    desired = models.CharField(max_length=16)
    generation = models.BigIntegerField(default=0)
    job = models.BigIntegerField(default=0)
    spec = models.JSONField(default=dict)
    image = models.CharField(max_length=63, default="")
    vcpus = models.IntegerField(default=0)
    memory_mib = models.BigIntegerField(default=0)
    observed_state = models.CharField(max_length=16, default="")
    observed_node = models.CharField(max_length=63, default="")
    observed_epoch = models.BigIntegerField(default=0)
    observed_sequence = models.BigIntegerField(default=0)
    observed_generation = models.BigIntegerField(default=0)
    addresses = models.JSONField(default=list)
    mac = models.CharField(max_length=17, default="")
    since = models.FloatField(default=0.0)
    observed_vcpus = models.IntegerField(default=0)
    observed_memory_mib = models.IntegerField(default=0)
    snapshots = models.JSONField(default=list)
    error = models.TextField(default="")
    refusal = models.TextField(default="")

    class Meta:
        verbose_name = "VE"
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="ve_name_in_project")]

    def __str__(self) -> str:
        return self.name


class Node(ReadModel):
    """A node entry as the leader's watch last showed it."""

    name = models.CharField(max_length=63, primary_key=True)
    cordoned = models.BooleanField(default=False)
    maintenance = models.BooleanField(default=False)
    labels = models.JSONField(default=list)
    description = models.TextField(default="")
    kinds = models.JSONField(default=list)
    cpus = models.IntegerField(default=0)
    memory_mib = models.BigIntegerField(default=0)
    disk_mib = models.BigIntegerField(default=0)
    software = models.CharField(max_length=100, default="")
    simulated = models.BooleanField(default=False)
    address = models.CharField(max_length=64, default="")

    def __str__(self) -> str:
        return self.name


class Image(ReadModel):
    """An image entry as the leader's watch last showed it."""

    name = models.CharField(max_length=63, primary_key=True)
    kind = models.CharField(max_length=16)
    sha256 = models.CharField(max_length=64)
    size = models.BigIntegerField()
    description = models.TextField(default="")

    def __str__(self) -> str:
        return self.name


class Stray(ReadModel):
    """A guest seen where it does not belong. ``ve``: the UUID that it bears, none where vmcloud did not make it. Sizes of 0: not
    known, or without a limit."""

    key = models.CharField(max_length=330, primary_key=True)
    node = models.CharField(max_length=63)
    native = models.CharField(max_length=255)
    kind = models.CharField(max_length=16)
    state = models.CharField(max_length=16)
    ve = models.UUIDField(null=True)
    addresses = models.JSONField(default=list)
    mac = models.CharField(max_length=17, default="")
    since = models.FloatField(default=0.0)
    vcpus = models.IntegerField(default=0)
    memory_mib = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.native} on {self.node}"


class Tombstone(ReadModel):
    """A VE that was deleted."""

    ve = models.UUIDField(primary_key=True)
    name = models.CharField(max_length=63)
    project = models.CharField(max_length=63)
    at = models.FloatField()

    def __str__(self) -> str:
        return f"{self.name} ({self.ve})"
