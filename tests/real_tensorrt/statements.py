"""Statements of edgefel's source, in the order in which they are run."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from real_tensorrt.described import UNKNOWN, Package, Values
from real_tensorrt.expressions import Expressions
from real_tensorrt.program import Env, Program

_MOST_ROUNDS = 12


def read_program(package: Package, files: Mapping[str, str]) -> Program:
    """Reads all functions until nothing new is known of any."""
    program = Program(package, files)
    for _ in range(_MOST_ROUNDS):
        program.changed = False
        program.uses, program.checked, program.unfollowed = set(), set(), set()
        for function in program.every_function():
            Reader(program, function).block(function.node.body)
        if not program.changed:
            return program
    raise AssertionError("the values do not come to rest")


class Stop(Exception):
    """The rest of a block is not reached."""


class Reader(Expressions):
    """Reads one function once."""

    def block(self, body: list[ast.stmt]) -> bool:
        """Whether its end is reached."""
        try:
            for statement in body:
                self.statement(statement)
        except Stop:
            return False
        return True

    def branches(self, bodies: list[list[ast.stmt]], narrowed: list[Env] | None = None) -> None:
        """One of these is run: what holds afterwards is joined. narrowed: what else is known in each."""
        before, after = self.env, list[Env]()
        for index, body in enumerate(bodies):
            self.env = dict(before) | (narrowed[index] if narrowed else {})
            if self.block(body):
                after.append(self.env)
        if not after:
            self.env = before
            raise Stop
        names = {name for env in after for name in env}
        self.env = {name: frozenset().union(*(env.get(name, UNKNOWN) for env in after)) for name in names}

    def statement(self, node: ast.stmt) -> None:
        handler = getattr(self, f"do_{type(node).__name__}", None)
        if handler is not None:
            handler(node)
            return
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child)

    def do_Return(self, node: ast.Return) -> None:
        if node.value is not None:
            self.gives(self.value(node.value))
        raise Stop

    def gives(self, values: Values) -> None:
        if not values <= self.function.result:
            self.function.result |= values
            self.program.changed = True

    def do_Raise(self, node: ast.Raise) -> None:
        for part in (node.exc, node.cause):
            if part is not None:
                self.value(part)
        raise Stop

    def do_Continue(self, node: ast.stmt) -> None:
        raise Stop

    do_Break = do_Continue

    def do_Assign(self, node: ast.Assign) -> None:
        values = self.value(node.value)
        for target in node.targets:
            self.assign(target, values)

    def do_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.assign(node.target, self.value(node.value))

    def do_If(self, node: ast.If) -> None:
        known = self.truth(node.test)
        outcomes = [outcome for outcome in (True, False) if known is None or known is outcome]
        bodies = [node.body if outcome else node.orelse for outcome in outcomes]
        self.branches(bodies, [self.narrowed(node.test, outcome) for outcome in outcomes])

    def do_For(self, node: ast.For) -> None:
        self.assign(node.target, self.elements(self.value(node.iter)))
        self.branches([node.body, []])
        self.block(node.orelse)

    def do_While(self, node: ast.While) -> None:
        self.truth(node.test)
        self.branches([node.body, []])

    def do_With(self, node: ast.With) -> None:
        for item in node.items:
            found = self.elements(self.value(item.context_expr))
            if item.optional_vars is not None:
                self.assign(item.optional_vars, found)
        if not self.block(node.body):
            # the context may swallow what was raised
            if any("suppress" in ast.unparse(item.context_expr) for item in node.items):
                return
            raise Stop

    def do_Try(self, node: ast.Try) -> None:
        self.branches([[*node.body, *node.orelse], *(handler.body for handler in node.handlers)])
        self.block(node.finalbody)

    def do_FunctionDef(self, node: ast.FunctionDef) -> None:
        made = self.program.inner_function(self.function, node)
        made.outer = dict(self.env)
        self.env[node.name] = frozenset([("function", made)])

    def do_ClassDef(self, node: ast.ClassDef) -> None:
        made = self.program.inner_class(self.function, node)
        found = frozenset().union(*(self.value(base) for base in node.bases), UNKNOWN)
        made.bases = tuple(value[1] for value in found if value[0] == "class")
        for function in made.functions.values():
            function.outer = dict(self.env)
        self.env[node.name] = frozenset([("ownclass", made)])
