"""Users: who may log in. Django's own forms in the theme's clothes."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from vmcloud.fleet.templatetags.cloud import when

from . import base

admin.site.unregister(User)
admin.site.unregister(Group)

_RIGHTS = ("is_active", "is_staff", "is_superuser")


@admin.register(User)
class People(base.Listed, UserAdmin, ModelAdmin):
    """Users. A superuser is an administrator of the cloud; staff may use these pages, for what they own."""

    one, many = "user", "users"
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("name", "rights", "seen")
    list_filter = _RIGHTS
    search_fields = ("username", "first_name", "last_name", "email")
    search_help_text = "Name, email"
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Who it is", {"fields": ("first_name", "last_name", "email")}),
        ("What they may do", {"fields": _RIGHTS}),
    )
    filter_horizontal = ()
    show_add_link = False

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """The form, under the user's name."""
        user = self.get_object(request, object_id)
        more = {"title": user.get_username() if user else "", "trail": [self.trail()]}
        return super().change_view(request, object_id, form_url, {**more, **(extra_context or {})})

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """The form for a new one."""
        return super().add_view(request, form_url, {"trail": [self.trail()], **(extra_context or {})})

    @admin.display(description="Name", ordering="username")
    def name(self, user: User) -> str:
        """Login name, a link to the form."""
        return base.link_to(reverse("admin:auth_user_change", args=[user.pk]), user.username)

    @admin.display(description="What they may do")
    def rights(self, user: User) -> str:
        """In words."""
        if not user.is_active:
            return "not log in"
        if user.is_superuser:
            return "everything: administrator of the cloud"
        return "what is their own, here and by API" if user.is_staff else "what is their own, by API and command line"

    @admin.display(description="Logged in", ordering="last_login")
    def seen(self, user: User) -> str:
        """When they last did, here."""
        return when(user.last_login.timestamp()) if user.last_login else ""

    def list_context(self, request: HttpRequest, listing: base.Listing) -> dict[str, Any]:
        return {"create": ("Add a user", reverse("admin:auth_user_add"))} if self.has_add_permission(request) else {}
