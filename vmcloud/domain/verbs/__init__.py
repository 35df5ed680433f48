"""What can be asked of a cloud: one module for each verb, found by its place (``<object>/<verb>.py``), and one list of them all.

A verb's module holds one class, derived from :class:`~.base.Verb`, and its one instance ``VERB``: the verb's request, the right
and the capability that it needs, what it checks, what it wants, its steps, how it is settled, how it shows meanwhile, and the
words that doors use for it. The engine, the doors and the documents read this list and know no verb by themselves.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from ..errors import Impossible, Invalid, NotFound
from ..hints import Hint
from ..kinds import KINDS, Support
from ..vocabulary import Kind
from .base import Verb

OBJECTS = ("ve", "node", "image", "cloud")
"""Kinds of objects that a verb may be about; each has a folder here."""


@functools.cache
def registry() -> Mapping[str, Verb]:
    """All verbs by name, those of one object together, each object's in the order of their names."""
    found: dict[str, Verb] = {}
    for kind in OBJECTS:
        package = importlib.import_module(f"{__name__}.{kind}")
        for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda each: each.name):
            verb = importlib.import_module(f"{package.__name__}.{module.name}").VERB
            assert isinstance(verb, Verb) and verb.object == kind and verb.name not in found, module.name
            found[verb.name] = verb
    return MappingProxyType(found)


def of(name: str) -> Verb:
    """The verb called so; :class:`KeyError` if there is none, as of a job that a later release of vmcloud has written."""
    return registry()[name]


def parse(name: object, where: str = "verb") -> Verb:
    """The same for what people have said; :class:`Invalid` names those that there are."""
    if isinstance(name, str) and name in registry():
        return registry()[name]
    raise Invalid(f"no verb is called {str(name)[:60]!r}", where=where, todo=f"Known verbs: {', '.join(sorted(registry()))}.")


def called(kind: str, name: str) -> Verb:
    """The verb of one kind of object that is called so there; :class:`NotFound` names those that there are."""
    known = {each.called: each for each in about(kind) if not each.own_way}
    if name in known:
        return known[name]
    raise NotFound(f"no verb is called {name[:60]!r}", where="verb", todo=f"Choose one of: {', '.join(known)}.")


def about(kind: str) -> tuple[Verb, ...]:
    """The verbs of one kind of object, in the order in which doors show them."""
    return tuple(sorted((each for each in registry().values() if each.object == kind), key=lambda each: (each.place, each.name)))


@functools.cache
def sessions() -> frozenset[str]:
    """Names of the verbs that connect a person to a guest."""
    return frozenset(each.name for each in registry().values() if each.session)


@functools.cache
def leaving_power() -> frozenset[str]:
    """Names of the verbs on VEs that never change whether a VE runs."""
    return frozenset(each.name for each in about("ve") if each.leaves_power and not each.session)


def able(kind: Kind) -> frozenset[str]:
    """Names of the verbs that can be asked of a VE of this kind, on some node at least."""
    info, usable = KINDS[kind], (Support.YES, Support.NODE)
    if not info.driver:
        return frozenset()
    return frozenset(each.name for each in about("ve") if each.needs is None or info.capability(each.needs).support in usable)


def check_able(kind: Kind, verb: Verb) -> None:
    """Raise :class:`Impossible` if VEs of this kind cannot do ``verb`` at all."""
    if verb.name in able(kind):
        return
    info = KINDS[kind]
    if not info.driver:
        usable = ", ".join(each.value for each, known in KINDS.items() if known.driver)
        raise Impossible(f"this version of vmcloud has no driver for kind {kind}", where="kind", todo=f"Choose one of: {usable}.")
    why = info.capability(verb.needs).why if verb.needs else ""
    todo = Hint("{} shows what can.", "kind.list")
    raise Impossible(f"a VE of kind {kind} cannot {verb.name}", where="verb", why=why, todo=todo)
