"""``vmcloud.schema`` to ``vmcloud.ldif`` (for cn=config) and ``OIDS.md``.

``python -m ldap_schema.convert`` writes both files anew; a test keeps them equal to what this module makes. The schema
file is the form people read and other servers import; cn=config takes LDIF only (slapd-config(5)).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SCHEMA = HERE / "vmcloud.schema"
LDIF = HERE / "vmcloud.ldif"
OIDS = HERE / "OIDS.md"

_DEFINITION = re.compile(r"^(attributetype|objectclass)\s+(\(.*?\s\))\s*?(?=\n\n|\n?\Z)", re.MULTILINE | re.DOTALL)
_MACRO = re.compile(r"^objectidentifier\s+(\S+)\s+(\S+)\s*$", re.MULTILINE)
_HEAD = re.compile(r"\(\s*(?P<oid>\S+)\s+NAME\s+'(?P<name>[^']+)'\s+DESC\s+'(?P<desc>[^']*)'\s*(?P<rest>.*)\)", re.DOTALL)


@dataclass(frozen=True)
class Definition:
    """One attribute type or object class with its number spelt out. ``rest`` is everything after DESC (RFC 4512, 4.1)."""

    sort: str
    oid: str
    name: str
    desc: str
    rest: str

    def text(self) -> str:
        """The definition on one line, as cn=config takes it."""
        return f"( {self.oid} NAME '{self.name}' DESC '{self.desc}' {self.rest} )"


def parse(schema: str) -> list[Definition]:
    """The definitions in the text of a .schema file, macros resolved. ValueError names what can not be read."""
    schema = re.sub(r"^#.*$", "", schema, flags=re.MULTILINE)
    macros: dict[str, str] = {}
    for name, value in _MACRO.findall(schema):
        macros[name] = _resolve(value, macros)
    definitions = []
    for sort, body in _DEFINITION.findall(schema):
        head = _HEAD.fullmatch(body.strip())
        if head is None:
            raise ValueError(f"not a definition with NAME and DESC: {body[:60]!r}")
        rest = " ".join(head["rest"].split())
        definitions.append(Definition(sort, _resolve(head["oid"], macros), head["name"], head["desc"], rest))
    return definitions


def _resolve(oid: str, macros: dict[str, str]) -> str:
    """``macro:suffix`` with the macro replaced."""
    base, _, rest = oid.partition(":")
    base = macros.get(base, base)
    return f"{base}.{rest}" if rest else base


def to_ldif(schema: str) -> str:
    """The entry ``cn=vmcloud,cn=schema,cn=config``. Lines are long on purpose: slapd reads them, people read the .schema."""
    lines = [
        "# Made from vmcloud.schema by: python -m ldap_schema.convert",
        "dn: cn=vmcloud,cn=schema,cn=config",
        "objectClass: olcSchemaConfig",
        "cn: vmcloud",
    ]
    keywords = {"attributetype": "olcAttributeTypes", "objectclass": "olcObjectClasses"}
    lines += [f"{keywords[each.sort]}: {each.text()}" for each in parse(schema)]
    return "\n".join(lines) + "\n"


def to_markdown(schema: str) -> str:
    """The list of numbers in use."""
    definitions = parse(schema)
    root = definitions[0].oid.rsplit(".", 2)[0]
    lines = [
        "# Object identifiers",
        "",
        "Made from `vmcloud.schema` by `python -m ldap_schema.convert`.",
        "",
        f"Root: `{root}`, the UUID e4d2bdb3-117a-404d-9a28-3a8871415fa8 as an integer below 2.25 (ITU-T X.667, RFC 4122).",
        "No registration is needed. Names begin with `vmc`. A number is never used again for something else; if the project",
        "gets a private enterprise number from IANA, only the macro `vmcRoot` changes, in a new version of the tree.",
    ]
    for title, sort, arc in (("Attributes", "attributetype", 1), ("Classes", "objectclass", 2)):
        lines += ["", f"## {title} (`vmcRoot.{arc}.n`)", "", "| n | name | meaning |", "|---|---|---|"]
        rows = [each for each in definitions if each.sort == sort]
        lines += [f"| {each.oid.rsplit('.', 1)[1]} | `{each.name}` | {each.desc} |" for each in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write both files."""
    schema = SCHEMA.read_text()
    LDIF.write_text(to_ldif(schema))
    OIDS.write_text(to_markdown(schema))


if __name__ == "__main__":
    main()
