"""Django's settings, derived from the cloud's ``config.toml`` (:mod:`vmcloud.config`) and the secrets of this process's part.

``VMCLOUD_PART`` says which part's secrets to read: ``web`` (default) or ``server``.
"""

from __future__ import annotations

import os

from vmcloud.config import Config

from . import database

PART = os.environ.get("VMCLOUD_PART", "web")
CLOUD = Config.load()


SECRET_KEY = CLOUD.secrets(PART)["secret_key"]
DEBUG = False
ALLOWED_HOSTS = ["*"] if CLOUD.web_host == "0.0.0.0" else ["127.0.0.1", "localhost", "[::1]", CLOUD.web_host]
INSTALLED_APPS = [
    # Ours first: its templates and static files go before the theme's, the theme's before Django's.
    "vmcloud.fleet",
    "unfold.apps.BasicAppConfig",
    "vmcloud.fleet.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "ninja",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "vmcloud.site.headers.ContentSecurityPolicy",
    "vmcloud.site.refusals.Refusals",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "vmcloud.site.urls"
ASGI_APPLICATION = "vmcloud.site.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {"default": database.settings(CLOUD.sql, part=PART, passfile=CLOUD.passfile_of(PART))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
# The theme's own settings; colours and all else that is seen are in fleet/static/fleet/vmcloud.css.
UNFOLD = {"SHOW_HISTORY": False, "SIDEBAR": {"navigation": "vmcloud.fleet.admin_site.navigation"}}
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False
DATA_UPLOAD_MAX_MEMORY_SIZE = 1 << 20
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}
