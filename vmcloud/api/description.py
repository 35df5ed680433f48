"""The OpenAPI description: every operation's refusals, also those that no operation names, are problem documents."""

from __future__ import annotations

from typing import Any

from ninja import NinjaAPI

from .problems import CONTENT_TYPE

_PROBLEM = {"schema": {"$ref": "#/components/schemas/ProblemOut"}}


class Described(NinjaAPI):
    """An API all of whose refusals are problems (RFC 9457)."""

    def get_openapi_schema(self, **about: Any) -> Any:
        """As Ninja makes it; refusals have the content type that they are sent with, and any operation may answer with one."""
        schema = super().get_openapi_schema(**about)
        for path in schema["paths"].values():
            for operation in path.values():
                answers = {str(status): answer for status, answer in operation["responses"].items()}
                if operation.get("security"):
                    answers.setdefault("401", {"description": "Unauthorized"})
                answers["default"] = {"description": "Any other refusal"}
                for status, answer in answers.items():
                    if status >= "4":
                        answers[status] = {**answer, "content": {CONTENT_TYPE: _PROBLEM}}
                operation["responses"] = answers
        return schema
