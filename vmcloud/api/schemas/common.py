"""What the descriptions of all resources share."""

from __future__ import annotations

from typing import Any

from ninja import Field, Schema

NAME = "DNS label (RFC 1123)"


class ProblemOut(Schema):
    """RFC 9457 problem details; `code` is stable and meant for programs."""

    type: str = Field(examples=["urn:vmcloud:problem:name-taken"])
    title: str = Field(examples=["Conflict"])
    status: int = Field(examples=[409])
    detail: str = Field(description="what and why, in one sentence", examples=["the name 'web-1' is taken in project 'main'"])
    code: str = Field(examples=["name-taken"])
    what: str
    where: str = Field("", description="the field or object in question")
    why: str = ""
    todo: str = Field("", description="what to do next, as a command", examples=["Renew it: `vmcloud ve lease web-1 +8h`."])
    action: str | None = Field(None, description="the same as data: an object and what is done with it", examples=["ve.lease"])
    args: dict[str, Any] | None = Field(None, description="the arguments of `action`", examples=[{"ve": "web-1", "for": "+8h"}])
    hint: str | None = Field(None, description="the sentence, with `{}` for the action in your words", examples=["Renew it: {}."])


class Page(Schema):
    next: str | None = Field(description="cursor of the next page; null on the last one")


def body(schema: type[Schema], *, required: bool = True) -> dict[str, Any]:
    """``openapi_extra`` for an operation that reads its JSON body itself."""
    described = schema.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = described.pop("$defs", {})
    for name, definition in [*definitions.items()] * 2:  # a definition may name another one
        described = _inline(described, name, definition)
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": described}}}}


def _inline(value: Any, name: str, definition: Any) -> Any:
    """``value`` with references to ``name`` replaced by its definition: what one operation takes stands in one place."""
    if isinstance(value, dict):
        if value.get("$ref") == f"#/components/schemas/{name}":
            rest = {key: item for key, item in value.items() if key != "$ref"}
            return {**definition, **rest}
        return {key: _inline(item, name, definition) for key, item in value.items()}
    if isinstance(value, list):
        return [_inline(item, name, definition) for item in value]
    return value


def query_parameters(*parameters: tuple[str, str]) -> list[dict[str, Any]]:
    """Optional query parameters as OpenAPI describes them: pairs of name and words."""
    return [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string"}, "description": text}
        for name, text in parameters
    ]


PROJECT = query_parameters(("project", "where a name is looked up; default `main`; a UUID needs none"))
AFTER = query_parameters(("after", "`directory_version` of a job: wait up to half a second until the answer shows that write"))
PAGES = query_parameters(("limit", "rows in one page, 1 to 1000; default 100"), ("cursor", "`next` of the page before"))
KEY: list[dict[str, Any]] = [
    {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "schema": {"type": "string", "maxLength": 255},
        "description": "the same request with the same key is done once",
    }
]
