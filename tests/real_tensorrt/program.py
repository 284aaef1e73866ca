"""Follows TensorRT's objects through edgefel's source, and finds what is used of them.

The source is not run. Each function is read with the values that its callers pass on, from `trt`, the module that
`trt: ModuleType` stands for, to what the methods of the package return. What is behind a check (`hasattr`,
`getattr` with a default, `trt.__name__ == ...`) is read only where the package passes that check.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from real_tensorrt.described import MODULE, UNKNOWN, Package, Values, constant, plain

Env = dict[str, Values]
_PLAIN = ("int", "str", "float", "bool", "bytes", "memoryview", "tuple", "list", "dict", "Path")
_MODULE_NAMES = ("trt", "_trt")


@dataclass(frozen=True)
class Use:
    """One place where something of TensorRT is used: "file:line", "ICudaEngine.num_io_tensors", what is wrong."""

    where: str
    what: str
    problem: str | None = None


@dataclass
class Function:
    """A function of edgefel: what its callers pass on, and what it gives. open: the parameters whose annotation does
    not say what they are. outer: what it sees of the function that it is in."""

    file: str
    node: ast.FunctionDef
    owner: Class | None = None
    outer: Env = field(default_factory=dict)
    parameters: Env = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    result: Values = UNKNOWN

    def __hash__(self) -> int:
        return id(self)

    def decorated(self, name: str) -> bool:
        return any(name in ast.unparse(one) for one in self.node.decorator_list)


@dataclass
class Class:
    """A class of edgefel. bases: its TensorRT classes."""

    file: str
    node: ast.ClassDef
    functions: dict[str, Function] = field(default_factory=dict)
    attributes: Env = field(default_factory=dict)
    bases: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return id(self)

    @property
    def instance(self) -> Values:
        return frozenset([("own", self, self.bases)])

    def fields(self) -> list[str]:
        return [
            n.target.id
            for n in self.node.body
            if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
        ]


@functools.cache
def parse(text: str) -> ast.Module:
    return ast.parse(text)


def _imports(tree: ast.Module, files: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """File and name there of every name that a file imports from another of these files."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            path = node.module.replace(".", "/") + ".py"
            # export/, calib/ and others are sub-packages of edgefel once installed
            file = path if path in files else path.removeprefix("edgefel/")
            found |= {one.asname or one.name: (file, one.name) for one in node.names if file in files}
    return found


class Program:
    """Files of edgefel by name, and what is known of them for one package.

    uses, checked: places, and the names that `hasattr` or `getattr` looks up. unfollowed: "file: function(parameter)"
    of type Any with attributes of which nothing is known.
    """

    def __init__(self, package: Package, files: Mapping[str, str]) -> None:
        self.package = package
        self.changed = True
        self.uses: set[Use] = set()
        self.checked: set[tuple[str, str]] = set()
        self.unfollowed: set[str] = set()
        # by file and name; those in a function as "function.name"
        self.functions: dict[tuple[str, str], Function] = {}
        self.classes: dict[tuple[str, str], Class] = {}
        trees = {file: parse(text) for file, text in files.items()}
        self.imported = {file: _imports(tree, files) for file, tree in trees.items()}
        for file, tree in trees.items():
            for node in tree.body:
                if isinstance(node, ast.FunctionDef):
                    self.functions[file, node.name] = Function(file, node)
                elif isinstance(node, ast.ClassDef):
                    self.classes[file, node.name] = Class(file, node)
        for function in self.functions.values():
            self._annotate(function)
        for one in self.classes.values():
            self._fill(one)

    @property
    def problems(self) -> list[str]:
        """What the package does not have, one line each."""
        bad = [use for use in self.uses if use.problem is not None]
        return sorted(f"{use.where}: {self.package}: {use.what} {use.problem}" for use in bad)

    def every_function(self) -> list[Function]:
        methods = [one for each in self.classes.values() for one in each.functions.values()]
        return [*self.functions.values(), *methods]

    def named(self, file: str, name: str) -> Function | Class | None:
        """What a name stands for in that file: its own, or what it imports."""
        for key in ((file, name), self.imported[file].get(name, (file, name))):
            if (found := self.functions.get(key) or self.classes.get(key)) is not None:
                return found
        return None

    def inner_function(self, outer: Function, node: ast.FunctionDef) -> Function:
        """A function in another one."""
        key = outer.file, f"{outer.node.name}.{node.name}"
        if key not in self.functions:
            self.functions[key] = Function(outer.file, node)
            self._annotate(self.functions[key])
            self.changed = True
        return self.functions[key]

    def inner_class(self, outer: Function, node: ast.ClassDef) -> Class:
        """A class in a function."""
        key = outer.file, f"{outer.node.name}.{node.name}"
        if key not in self.classes:
            self.classes[key] = Class(outer.file, node)
            self._fill(self.classes[key])
            self.changed = True
        return self.classes[key]

    def _annotate(self, function: Function) -> None:
        arguments = function.node.args
        for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            known = self.annotated(function.file, one.arg, one.annotation)
            function.parameters[one.arg] = known
            if not known:
                function.open.add(one.arg)

    def _fill(self, one: Class) -> None:
        for node in one.node.body:
            if isinstance(node, ast.FunctionDef):
                one.functions[node.name] = Function(one.file, node, one)
                self._annotate(one.functions[node.name])
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                one.attributes[node.target.id] = self.annotated(one.file, node.target.id, node.annotation)

    def annotated(self, file: str, name: str, annotation: ast.expr | None) -> Values:
        """What a parameter or field of that name and annotation may be."""
        if isinstance(annotation, ast.BinOp):
            sides = [self.annotated(file, name, side) for side in (annotation.left, annotation.right)]
            return UNKNOWN if UNKNOWN in sides else sides[0] | sides[1]
        if isinstance(annotation, ast.Subscript):
            return self.annotated(file, name, annotation.value)
        if isinstance(annotation, ast.Constant) and annotation.value is None:
            return constant(None)
        if not isinstance(annotation, ast.Name):
            return UNKNOWN
        if annotation.id == "ModuleType":
            return frozenset([MODULE]) if name in _MODULE_NAMES else UNKNOWN
        if isinstance(found := self.named(file, annotation.id), Class):
            return found.instance
        return plain(annotation.id) if annotation.id in _PLAIN else UNKNOWN

    def join(self, where: Env, name: str, values: Values) -> None:
        """Adds what a parameter, field or function may be; what is known by annotation stays."""
        if not values <= where.get(name, UNKNOWN):
            where[name] = where.get(name, UNKNOWN) | values
            self.changed = True
