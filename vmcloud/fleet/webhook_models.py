"""The tables of webhooks: who is to be told of what, and what was or is to be told them."""

from __future__ import annotations

from django.db import models


class Webhook(models.Model):
    """A subscription (:class:`vmcloud.domain.webhooks.Subscription`). ``failures``: attempts in a row that failed, since
    ``failing_since``; nothing is sent before ``next_at``. ``reason``: why it is disabled, where nobody asked for that."""

    owner = models.CharField(max_length=150)
    project = models.CharField(max_length=63, default="", blank=True)
    url = models.CharField(max_length=1000)
    secret = models.CharField(max_length=200)
    types = models.JSONField(default=list)
    description = models.CharField(max_length=200, default="", blank=True)
    enabled = models.BooleanField(default=True)
    reason = models.CharField(max_length=500, default="", blank=True)
    created_at = models.FloatField()
    failures = models.IntegerField(default=0)
    failing_since = models.FloatField(null=True)
    next_at = models.FloatField(default=0.0)
    last_at = models.FloatField(null=True)
    last_code = models.IntegerField(null=True)

    class Meta:
        verbose_name = "webhook"

    def __str__(self) -> str:
        return f"{self.pk} {self.url}"


class DeliveryState(models.TextChoices):
    """``FAILED``: given up."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


class Delivery(models.Model):
    """One message for one webhook: the outbox, and for a while the record of what was sent. ``event`` is the happening's id and
    stays the same in every attempt; ``code``: of the last answer."""

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    event = models.CharField(max_length=80)
    type = models.CharField(max_length=32)
    at = models.FloatField()
    body = models.TextField()
    state = models.CharField(max_length=10, choices=DeliveryState.choices, default=DeliveryState.WAITING)
    attempts = models.IntegerField(default=0)
    next_at = models.FloatField(default=0.0)
    code = models.IntegerField(null=True)
    error = models.CharField(max_length=500, default="", blank=True)
    ended_at = models.FloatField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["webhook", "event"], name="one_delivery_of_an_event")]
        indexes = [models.Index(fields=["webhook", "state", "next_at"], name="delivery_by_turn")]
        verbose_name_plural = "deliveries"

    def __str__(self) -> str:
        return f"{self.webhook_id} {self.event}"
