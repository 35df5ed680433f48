"""The fleet's two doors to the outside, one of each per process: the directory and the broker, as this process's part."""

from __future__ import annotations

from functools import lru_cache

from django.conf import settings

from vmcloud.config import Config
from vmcloud.directory.store import Directory
from vmcloud.dispatch.send import Sender


def cloud() -> Config:
    """This cloud's settings."""
    config: Config = settings.CLOUD
    return config


@lru_cache(maxsize=1)
def directory() -> Directory:
    """The directory, bound as this process's part."""
    config = cloud()
    secrets = config.secrets(settings.PART)
    return Directory.of(config.directory_uri, config.suffix, settings.PART, secrets["directory_password"])


@lru_cache(maxsize=1)
def sender() -> Sender:
    """The broker, as this process's part. The web part only wakes others: a frozen broker must not hold up its answers."""
    return Sender(cloud(), settings.PART, timeout=0.5 if settings.PART == "web" else 3.0)
