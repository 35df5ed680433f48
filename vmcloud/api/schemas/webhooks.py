"""The shapes of webhooks and of what is sent to them, for the API's description."""

from __future__ import annotations

from typing import Literal

from ninja import Field, Schema

from vmcloud.domain.happenings import TYPES


class WebhookOut(Schema):
    """A subscription. Its secret is told once, by the answer that makes it."""

    id: int
    url: str = Field(examples=["https://example.org/hook"])
    types: list[str] = Field(description="what it is told of; none: everything", examples=[["job.ended", "node.*"]])
    project: str | None = Field(description="null: all projects")
    description: str
    owner: str
    enabled: bool
    reason: str = Field(description="why it was disabled, where nobody asked for that")
    waiting: int = Field(description="messages still to be sent")
    failed: int = Field(description="messages that were given up, among those that are kept")
    failures: int = Field(description="attempts in a row that failed")
    failing_since: str | None
    next_try: str | None
    last: str | None = Field(description="when something was sent last")
    last_code: int | None = Field(description="the last answer; null: there was none", examples=[204])
    created: str


class WebhookMade(WebhookOut):
    """A new one."""

    secret: str = Field(description="told once; it signs the messages", examples=["whsec_…"])


class WebhookPage(Schema):
    """A page of webhooks, by number."""

    items: list[WebhookOut]
    next: str | None = None


class DeliveryOut(Schema):
    """One message for a webhook."""

    id: int
    event: str = Field(description="`webhook-id`: the same in every attempt", examples=["job-42-ended-1763750000123"])
    type: str
    at: str = Field(description="when it happened")
    state: Literal["waiting", "delivered", "failed"]
    attempts: int
    next_try: str | None
    code: int | None = Field(description="the last answer; null: there was none")
    error: str
    ended: str | None


class DeliveryPage(Schema):
    """A page of messages, newest first."""

    items: list[DeliveryOut]
    next: str | None = None


class WebhookIn(Schema):
    """What a webhook is told of, and where. All but `url` may be left out."""

    url: str = Field("", description="http or https, without a password", examples=["https://example.org/hook"])
    types: list[str] = Field([], description=f"none: everything. Known: {', '.join(TYPES)}; all of one: `job.*`")
    project: str = Field("", description="of this project only")
    description: str = ""
    enabled: bool = True
    secret: str = Field("", description="whsec_ and the base64 of 24 to 64 bytes; not given: one is made")
