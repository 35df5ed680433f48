"""What is wanted of a VE, as one value: power, shape and owner."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from .spec import ALTERABLE, Spec
from .vocabulary import Desired

SIZES = ("vcpus", "memory_mib", "disk_mib")
FREE = (*ALTERABLE, "owner")
"""What is changed without a node having to do anything."""
FIXED = ("kind", "image", "node", "privileged")
"""What stays as it was created."""
FIELDS = ("desired", *SIZES, *FREE, *FIXED)


@dataclass(frozen=True)
class Wish:
    """What is wanted of a VE: power, shape, owner."""

    desired: Desired
    spec: Spec
    owner: str

    def value(self, name: str) -> Any:
        """One of :data:`FIELDS`."""
        return getattr(self if name in ("desired", "owner") else self.spec, name)

    def with_power(self, desired: Desired) -> Wish:
        """This wish, with another power."""
        return replace(self, desired=desired)

    def with_spec(self, spec: Spec) -> Wish:
        """This wish, with another shape."""
        return replace(self, spec=spec)

    def taking(self, other: Wish, names: Iterable[str]) -> Wish:
        """This wish, with these fields of ``other``."""
        names = set(names)
        own = {name: other.value(name) for name in names & {"desired", "owner"}}
        shape = {name: other.value(name) for name in names - {"desired", "owner"}}
        return replace(self, spec=replace(self.spec, **shape), **own)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"desired": self.desired.value, "spec": self.spec.to_json(), "owner": self.owner}


def differences(accepted: Wish, found: Wish) -> frozenset[str]:
    """The fields in which they differ."""
    return frozenset(name for name in FIELDS if accepted.value(name) != found.value(name))
