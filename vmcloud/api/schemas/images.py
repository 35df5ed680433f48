"""Images."""

from __future__ import annotations

from ninja import Field, Schema

from .common import Page


class ImageOut(Schema):
    """A template root file system: one archive known by its SHA-256."""

    name: str = Field(examples=["busybox"])
    kind: str = Field(description="the kind it is for, or `any`", examples=["lxc"])
    sha256: str
    size: int = Field(description="bytes of the archive")
    description: str


class ImagePage(Page):
    """A page of images, by name."""

    items: list[ImageOut]
