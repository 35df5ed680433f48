"""Tables about whom to trust: what was refused to whom, and what of a node's claims counts."""

from __future__ import annotations

from django.db import models


class Audit(models.Model):
    """Something that was refused, or a login: ``who`` asked, from which ``source`` (an address, a node), through which ``door``,
    ``what`` it was and ``why`` it was refused. ``allowed``: it was not. The same again within a minute is counted in ``count``,
    the last time at ``last_at``. Written by :mod:`vmcloud.fleet.services.audit` only."""

    at = models.FloatField(db_index=True)
    last_at = models.FloatField()
    door = models.CharField(max_length=10)
    who = models.CharField(max_length=150, default="", blank=True)
    source = models.CharField(max_length=64, default="", blank=True)
    what = models.CharField(max_length=200)
    why = models.CharField(max_length=500, default="", blank=True)
    allowed = models.BooleanField(default=False)
    count = models.IntegerField(default=1)

    class Meta:
        verbose_name = "refusal or login"
        verbose_name_plural = "audit"

    def __str__(self) -> str:
        return f"{self.door}: {self.what}"


class ConfirmedCapacity(models.Model):
    """What a node had when it was first heard, or when ``by`` confirmed it (:mod:`vmcloud.domain.capacity`)."""

    node = models.CharField(max_length=63, primary_key=True)
    cpus = models.IntegerField()
    memory_mib = models.BigIntegerField()
    disk_mib = models.BigIntegerField()
    kinds = models.JSONField(default=list)
    by = models.CharField(max_length=150, default="", blank=True)
    at = models.FloatField()

    def __str__(self) -> str:
        return self.node
