"""Accounts, and whether the web part is well."""

from __future__ import annotations

from typing import Literal

from ninja import Field, Schema


class WhoOut(Schema):
    """Who is asking."""

    username: str = Field(examples=["admin"])
    is_admin: bool


class TokenOut(Schema):
    """A new token. Its text is told once and not kept."""

    token: str = Field(examples=["vmc_…"])
    username: str
    name: str


class HealthOut(Schema):
    """The web part answers, and reaches its database."""

    status: Literal["ok"]


class LoginIn(Schema):
    """Password for a token."""

    username: str = Field(examples=["admin"])
    password: str = Field(examples=["…"])
    name: str = Field("api", description="what the token is for, at most 100 characters")
