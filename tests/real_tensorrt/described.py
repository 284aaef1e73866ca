"""What a TensorRT package has, and whether a call fits: signatures as pybind11 writes them into docstrings.

Values, of which an expression may have several, are tuples: ("module",), ("class", "Builder"), ("object", "Builder"),
("method", "Builder", "create_network"), ("constant", None), ("plain", "int"), ("list", values), ("tuple", values...).
No value at all is one that is not known.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Value = tuple[Any, ...]
Values = frozenset[Value]
UNKNOWN: Values = frozenset()
MODULE: Value = ("module",)
_SIGNATURE = re.compile(r"^(?:\d+\. )?\w*\((.*)\) -> (.+)$")
_NUMBERS = {"typing.SupportsInt": "int", "typing.SupportsFloat": "float", "numpy.bool": "bool"}
_FITTING = {
    "int": {"int", "bool"},
    "float": {"int", "float", "bool"},
    "bool": {"bool"},
    "str": {"str"},
    "bytes": {"bytes"},
    "buffer": {"bytes", "memoryview", "array"},
    "typing_extensions.Buffer": {"bytes", "memoryview", "array"},
}
_SHAPES = ("tuple", "list")
_MOST_CHOICES = 64


def plain(name: str) -> Values:
    return frozenset([("plain", name)])


def constant(value: object) -> Values:
    return frozenset([("constant", value)])


@dataclass(frozen=True)
class Parameter:
    """An argument: its name, type and whether it may be left out."""

    name: str
    type: str
    optional: bool


@dataclass(frozen=True)
class Signature:
    """One overload."""

    parameters: tuple[Parameter, ...]
    result: str

    @classmethod
    def parse(cls, line: str) -> Signature | None:
        """Of a line of a docstring: "parse(self: X, model: buffer, path: str = None) -> bool"."""
        if (match := _SIGNATURE.match(line)) is None:
            return None
        parameters = []
        for part in _split(match[1]):
            if part.startswith("*"):
                return None  # the title of several overloads
            name, _, rest = part.partition(":")
            kind, equals, _ = rest.partition("=")
            parameters.append(Parameter(name.strip(), kind.strip(), bool(equals)))
        return cls(tuple(parameters), match[2].strip())

    def refusal(self, given: list[Values], named: Mapping[str, Values], more: bool, fits: Any) -> str | None:
        """Why a call without `self` does not fit; `more`: of arguments that are not known, such as *shapes."""
        names = [parameter.name for parameter in self.parameters]
        if len(given) > len(names):
            return f"takes {len(names)} arguments, not {len(given)}"
        pairs = dict(zip(names, given, strict=False))
        for name, value in named.items():
            if name not in names or name in pairs:
                return f"has no argument {name}" if name not in names else f"is given {name} twice"
            pairs[name] = value
        for parameter in self.parameters:
            if parameter.name not in pairs:
                if not parameter.optional and not more:
                    return f"needs {parameter.name}"
            elif not fits(pairs[parameter.name], parameter.type):
                return f"{parameter.name} is {parameter.type}, not {_shown(pairs[parameter.name])}"
        return None


def _split(text: str) -> list[str]:
    """At commas that are in no bracket."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character in "([{<") - (character in ")]}>")
        if character == "," and depth == 0:
            parts.append(text[start:position].strip())
            start = position + 1
    return [part for part in [*parts, text[start:].strip()] if part]


def _singly(given: list[Values]) -> Iterable[list[Values]]:
    """Every choice of one value for each."""
    choices = [[frozenset([one]) for one in values] or [UNKNOWN] for values in given]
    return map(list, itertools.islice(itertools.product(*choices), _MOST_CHOICES))


def _shown(values: Values) -> str:
    return " or ".join(sorted(" ".join(map(str, value[:2])) for value in values))


@dataclass(frozen=True, eq=False)
class Package:
    """What `describe_bindings.py` prints of a package."""

    data: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.data["name"])

    def __str__(self) -> str:
        return f"{self.name} {self.data['version']}"

    @functools.cached_property
    def names(self) -> set[str]:
        """Of everything in it."""
        return {name for one in self.data["classes"].values() for name in one["members"]}

    def member(self, owner: str, name: str) -> Mapping[str, Any] | None:
        """Of a class, or the module for ""; None if there is none."""
        found: Mapping[str, Any] | None = (
            self.data["classes"].get(owner, {"members": {}})["members"].get(name)
        )
        return found

    def signatures(self, owner: str, name: str, setter: bool = False) -> list[Signature]:
        """The overloads; none where the docstring has no signature."""
        member = self.member(owner, name) or {}
        text = (member.get("set") if setter else member.get("doc")) or ""
        return [found for line in text.split("\n") if (found := Signature.parse(line)) is not None]

    def attribute(self, value: Value, name: str) -> Values | None:
        """What `value.name` gives; None if there is no such attribute, UNKNOWN if that cannot be told."""
        if value == MODULE:
            if name in ("__name__", "__version__"):
                return frozenset([("constant", self.name if name == "__name__" else self.data["version"])])
            owner = ""
        elif value[0] in ("class", "object"):
            owner = value[1]
            if owner not in self.data["classes"] or name in ("__class__", "__doc__"):
                return UNKNOWN
        else:
            return UNKNOWN
        if (member := self.member(owner, name)) is None:
            return None
        if "class" in member:
            return frozenset([("class", member["class"])])
        if "value" in member:
            there = member["value"] in self.data["classes"]
            return frozenset([("object", member["value"]) if there else ("plain", member["value"])])
        if "set" in member:
            if value[0] == "class":
                return UNKNOWN
            return self._joined(self.signatures(owner, name))
        return frozenset([("method", owner, name, value[0] != "class")])

    def call(
        self, value: Value, given: list[Values], named: Mapping[str, Values], more: bool
    ) -> tuple[str | None, Values]:
        """Why the call does not fit, None if it does, and what it gives."""
        if value[0] == "class":
            owner, name, bound = value[1], "__init__", True
        else:
            _, owner, name, bound = value
        overloads = self.signatures(owner, name)
        if value[0] == "class" and not overloads:
            return "cannot be made", UNKNOWN
        if bound and owner:  # what precedes is `self`
            given = [UNKNOWN, *given]
        problem, fitting = None, set[Signature]()
        # each of the values that an argument may have, since they may be for different overloads
        for one in _singly([*given, *named.values()]):
            call = one[: len(given)], dict(zip(named, one[len(given) :], strict=True))
            refusals = [overload.refusal(*call, more, self.fits) for overload in overloads]
            taken = [each for each, refusal in zip(overloads, refusals, strict=True) if refusal is None]
            fitting.update(taken)
            if overloads and not taken:
                problem = refusals[0]
        made: Values = frozenset([("object", owner)])
        return problem, made if value[0] == "class" else self._joined(fitting or overloads)

    def set_attribute(self, owner: str, name: str, values: Values) -> str | None:
        """Why an attribute of an object cannot be set to these values; None if it can."""
        member = self.member(owner, name)
        if member is None or member.get("set") is None:
            return "is missing" if member is None else "cannot be set"
        for one in self.signatures(owner, name, setter=True)[:1]:
            if not self.fits(values, kind := one.parameters[-1].type):
                return f"is {kind}, not {_shown(values)}"
        return None

    def _joined(self, overloads: Iterable[Signature]) -> Values:
        return frozenset().union(*(self.of_type(one.result) for one in overloads))

    def of_type(self, name: str) -> Values:
        """The values of a type of the docstrings."""
        name = _NUMBERS.get(name, name)
        if name == "None":
            return constant(None)
        if name in ("int", "str", "bytes", "float", "bool"):
            return plain(name)
        if (match := re.fullmatch(r"(?:[Ll]ist|collections\.abc\.Sequence)\[(.*)\]", name)) is not None:
            return frozenset([("list", self.of_type(match[1]))])
        own = self._own(name)
        return UNKNOWN if own is None else frozenset([("object", own)])

    def _own(self, name: str) -> str | None:
        """The class of a full name such as "tensorrt.tensorrt.ILogger.Severity", or of the name that it has in C++
        ("nvonnxparser::IParserError") where its docstring was made before the class was known."""
        if "::" in name:
            short = name.rpartition("::")[2]
            names = [short, short.removeprefix("I")]
        else:
            names = name.split(".", 2)[2:]
        return next((one for one in names if one in self.data["classes"]), None)

    def fits(self, values: Values, kind: str) -> bool:
        """Whether every value may be given for that type; what is not known may."""
        return all(self._fits(value, _NUMBERS.get(kind, kind)) for value in values)

    def _fits(self, value: Value, kind: str) -> bool:
        own = self._own(kind)
        if value[0] == "constant":
            if value[1] is None:
                return own is not None or kind in ("object", "str")
            value = ("plain", type(value[1]).__name__)
        if own is None:
            if kind in ("buffer", "typing_extensions.Buffer") and value == ("object", "IHostMemory"):
                return True
            wanted = _FITTING.get(kind)
            return wanted is None or (value[0] == "plain" and value[1] in wanted)
        if own == "Dims" and (value[0] in _SHAPES or value[:2] in {("plain", one) for one in _SHAPES}):
            return True
        if value[0] == "own":  # a class of edgefel with this one as a base
            return own in value[2]
        return value[0] == "object" and own in (value[1], *self.data["classes"][value[1]]["bases"])
