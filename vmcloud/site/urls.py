"""Addresses of the web part."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from vmcloud.api.metrics import metrics

handler500 = "vmcloud.site.errors.failed"
urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("admin/", admin.site.urls),
    path("metrics", metrics, name="metrics"),
    path("api/v1/", include("vmcloud.api.urls")),
]
