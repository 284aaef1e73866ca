"""Expressions of edgefel's source, with the values that they may have."""

from __future__ import annotations

import ast

from real_tensorrt.described import MODULE, UNKNOWN, Value, Values, constant, plain
from real_tensorrt.program import Class, Env, Function, Program, Use

_BUILTINS = {"int": "int", "len": "int", "sum": "int"}
_BUILTINS |= {name: name for name in ("str", "float", "bool", "bytes", "memoryview", "tuple")}


class Expressions:
    """What the expressions of a function give, and which uses of TensorRT are in them."""

    def __init__(self, program: Program, function: Function) -> None:
        self.program, self.function, self.package = program, function, program.package
        self.env: Env = {**function.outer, **function.parameters}
        if function.owner is not None and not function.decorated("staticmethod"):
            first = function.node.args.args[0].arg
            kind = ("ownclass", function.owner)
            self.env[first] = (
                frozenset([kind]) if function.decorated("classmethod") else function.owner.instance
            )

    def where(self, node: ast.AST) -> str:
        return f"{self.function.file}:{getattr(node, 'lineno', 0)}"

    def value(self, node: ast.expr) -> Values:
        handler = getattr(self, f"of_{type(node).__name__}", None)
        if handler is not None:
            found: Values = handler(node)
            return found
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child)
        return UNKNOWN

    def of_Constant(self, node: ast.Constant) -> Values:
        return constant(node.value)

    def of_JoinedStr(self, node: ast.JoinedStr) -> Values:
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                self.value(part.value)
        return plain("str")

    def of_Name(self, node: ast.Name) -> Values:
        if node.id in self.env:
            return self.env[node.id]
        found = self.program.named(self.function.file, node.id)
        if found is None:
            return UNKNOWN
        return frozenset([("function" if isinstance(found, Function) else "ownclass", found)])

    def of_NamedExpr(self, node: ast.NamedExpr) -> Values:
        values = self.value(node.value)
        self.env[node.target.id] = values
        return values

    def of_Tuple(self, node: ast.Tuple) -> Values:
        if any(isinstance(one, ast.Starred) for one in node.elts):
            for one in node.elts:
                self.value(one)
            return plain("tuple")
        return frozenset([("tuple", *(self.value(one) for one in node.elts))])

    def of_List(self, node: ast.List) -> Values:
        return frozenset([("list", frozenset().union(*(self.value(one) for one in node.elts), UNKNOWN))])

    def of_Starred(self, node: ast.Starred) -> Values:
        return self.value(node.value)

    def of_ListComp(self, node: ast.ListComp | ast.GeneratorExp) -> Values:
        saved = dict(self.env)
        for one in node.generators:
            self.assign(one.target, self.elements(self.value(one.iter)))
            for condition in one.ifs:
                self.truth(condition)
        found = self.value(node.elt)
        self.env = saved
        return frozenset([("list", found)])

    of_GeneratorExp = of_SetComp = of_ListComp

    def of_DictComp(self, node: ast.DictComp) -> Values:
        saved = dict(self.env)
        for one in node.generators:
            self.assign(one.target, self.elements(self.value(one.iter)))
        self.value(node.key)
        self.value(node.value)
        self.env = saved
        return UNKNOWN

    def of_Lambda(self, node: ast.Lambda) -> Values:
        saved = dict(self.env)
        for argument in node.args.args:
            self.env[argument.arg] = UNKNOWN
        self.value(node.body)
        self.env = saved
        return UNKNOWN

    def of_Yield(self, node: ast.Yield) -> Values:
        if node.value is not None:
            self.gives(frozenset([("list", self.value(node.value))]))
        return UNKNOWN

    def of_IfExp(self, node: ast.IfExp) -> Values:
        known, before, found = self.truth(node.test), self.env, UNKNOWN
        for side, outcome in ((node.body, True), (node.orelse, False)):
            if known is None or known is outcome:
                self.env = dict(before) | self.narrowed(node.test, outcome)
                found |= self.value(side)
        self.env = before
        return found

    def of_BoolOp(self, node: ast.BoolOp) -> Values:
        found = UNKNOWN
        for one in node.values:
            # `a or b`: a null pointer is not b
            found |= self.value(one)
            if (known := self.truth(one)) is isinstance(node.op, ast.Or) and known is not None:
                break
        return found

    def of_BinOp(self, node: ast.BinOp) -> Values:
        left, right = self.value(node.left), self.value(node.right)
        if left == plain("Path"):
            return left
        numbers = {"int", "bool"}
        return plain("int") if self._plain(left) <= numbers and self._plain(right) <= numbers else UNKNOWN

    def _plain(self, values: Values) -> set[str]:
        """Names of their types, "" for what is not plain."""
        names = {"constant": lambda v: type(v[1]).__name__, "plain": lambda v: v[1]}
        return {names[value[0]](value) if value[0] in names else "" for value in values} or {""}

    def of_UnaryOp(self, node: ast.UnaryOp) -> Values:
        return (
            plain("bool")
            if isinstance(node.op, ast.Not) and [self.truth(node.operand)]
            else self.value(node.operand)
        )

    def of_Compare(self, node: ast.Compare) -> Values:
        known = self.truth(node)
        return plain("bool") if known is None else constant(known)

    def of_Subscript(self, node: ast.Subscript) -> Values:
        values = self.value(node.value)
        self.value(node.slice)
        if isinstance(node.slice, ast.Slice):
            return frozenset(plain("tuple") if ("object", "Dims") in values else values)
        index = node.slice.value if isinstance(node.slice, ast.Constant) else None
        return self.item(values, index if isinstance(index, int) else None)

    def item(self, values: Values, index: int | None) -> Values:
        found = UNKNOWN
        for value in values:
            if value[0] == "tuple" and index is not None and index + 1 < len(value):
                found |= value[index + 1]
            else:
                found |= self.elements(frozenset([value]))
        return found

    def elements(self, values: Values) -> Values:
        """What a loop over it, or a `with`, gives."""
        found = UNKNOWN
        for value in values:
            if value[0] == "list":
                found |= value[1]
            elif value[0] == "tuple":
                found = found.union(*value[1:])
            elif value == ("object", "Dims"):
                found |= plain("int")
        return found

    def of_Attribute(self, node: ast.Attribute) -> Values:
        values = self.value(node.value)
        if (narrowed := self.env.get(ast.unparse(node))) is not None:
            return narrowed
        if not values:
            self._unfollowed(node)
        return frozenset().union(*(self.attribute(node, value) for value in values))

    def _unfollowed(self, node: ast.Attribute) -> None:
        arguments = self.function.node.args
        for one in (*arguments.args, *arguments.kwonlyargs):
            annotation = "" if one.annotation is None else ast.unparse(one.annotation)
            if isinstance(node.value, ast.Name) and (one.arg, annotation) == (node.value.id, "Any"):
                self.program.unfollowed.add(f"{self.function.file}: {self.function.node.name}({one.arg})")

    def attribute(self, node: ast.Attribute, value: Value) -> Values:
        name = node.attr
        if value[0] in ("own", "ownclass"):
            return self.own_attribute(value, name)
        if value == ("plain", "Path"):
            return frozenset([("path", name)])
        if value == MODULE or value[0] in ("class", "object"):
            found = self.package.attribute(value, name)
            problem = "is missing" if found is None else None
            if not name.startswith("__"):
                what = f"{value[1]}.{name}" if value != MODULE else name
                self.program.uses.add(Use(self.where(node), what, problem))
            return found or UNKNOWN
        return UNKNOWN

    def own_attribute(self, value: Value, name: str) -> Values:
        one: Class = value[1]
        if (function := one.functions.get(name)) is not None:
            if function.decorated("property") and value[0] == "own":
                return function.result
            bound = value[0] == "own" or function.decorated("classmethod")
            return frozenset([("function", function, bound and not function.decorated("staticmethod"))])
        if name in one.attributes:
            return one.attributes[name]
        for base in one.bases:
            if value[0] == "own":
                return self.package.attribute(("object", base), name) or UNKNOWN
        return UNKNOWN

    def of_Call(self, node: ast.Call) -> Values:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in ("hasattr", "getattr") and len(node.args) > 1:
            return self.lookup(name, node)
        called = self.value(node.func)
        given = [self.value(one) for one in node.args]
        more = any(isinstance(one, ast.Starred) for one in node.args)
        if more:
            given = [
                one for one, arg in zip(given, node.args, strict=True) if not isinstance(arg, ast.Starred)
            ]
        named = {one.arg: self.value(one.value) for one in node.keywords if one.arg is not None}
        if not called:
            return self.builtin(name, given)
        return frozenset().union(*(self.call(node, one, given, named, more) for one in called))

    def builtin(self, name: str, given: list[Values]) -> Values:
        if name in ("iter", "list", "sorted", "reversed", "filter", "set") and given:
            return frozenset([("list", self.elements(given[-1]))])
        if name == "next" and given:
            return self.elements(given[0])
        if name == "enumerate" and given:
            return frozenset([("list", frozenset([("tuple", plain("int"), self.elements(given[0]))]))])
        if name == "range":
            return frozenset([("list", plain("int"))])
        return plain(_BUILTINS[name]) if name in _BUILTINS else UNKNOWN

    def call(
        self, node: ast.Call, called: Value, given: list[Values], named: dict[str, Values], more: bool
    ) -> Values:
        if called[0] == "path":
            return {"read_bytes": plain("bytes"), "read_text": plain("str")}.get(called[1], UNKNOWN)
        if called[0] == "function":
            function: Function = called[1]
            skip = int(function.owner is not None and len(called) > 2 and called[2])
            self.bind(function, given, named, skip)
            return function.result
        if called[0] == "ownclass":
            one: Class = called[1]
            if "__init__" in one.functions:
                self.bind(one.functions["__init__"], given, named, 1)
            for name, values in (*zip(one.fields(), given, strict=False), *named.items()):
                if name in one.attributes and not one.attributes[name]:
                    self.program.join(one.attributes, name, values)
            return one.instance
        if called[0] not in ("class", "method"):
            return UNKNOWN
        problem, result = self.package.call(called, given, named, more)
        what = ".".join(part for part in called[1:3] if isinstance(part, str) and part)
        self.program.uses.add(Use(self.where(node), f"{what}()", problem))
        return result

    def bind(self, function: Function, given: list[Values], named: dict[str, Values], skip: int) -> None:
        names = [one.arg for one in function.node.args.args][skip:]
        for name, values in (*zip(names, given, strict=False), *named.items()):
            if name in function.open:
                self.program.join(function.parameters, name, values)

    def lookup(self, name: str, node: ast.Call) -> Values:
        """hasattr and getattr."""
        values, key = self.value(node.args[0]), node.args[1]
        default = self.value(node.args[2]) if len(node.args) > 2 else UNKNOWN
        if not isinstance(key, ast.Constant):
            self.value(key)
            return UNKNOWN
        found, there = UNKNOWN, list[bool | None]()
        none = ("constant", None)
        for value in values - {none} or values:
            if value == MODULE or value[0] in ("class", "object"):
                self.program.checked.add((self.where(node), key.value))
                one = self.package.attribute(value, key.value)
                there.append(one is not None)
                found |= default if one is None else one
            elif value == none:
                there.append(False)
                found |= default
            else:
                there.append(None)
        if name == "hasattr":
            return (
                constant(there[0])
                if there and len(set(there)) == 1 and there[0] is not None
                else plain("bool")
            )
        return found

    def truth(self, node: ast.expr) -> bool | None:
        """Whether a condition holds, None where that is not known."""
        if isinstance(node, ast.BoolOp):
            stop = isinstance(node.op, ast.Or)
            found: list[bool | None] = []
            for one in node.values:
                found.append(self.truth(one))
                if found[-1] is stop:
                    return stop
            return None if None in found else not stop
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            inner = self.truth(node.operand)
            return None if inner is None else not inner
        if isinstance(node, ast.Compare):
            left, *others = (self.value(one) for one in (node.left, *node.comparators))
            return self.compared(left, node.ops[0], others[0]) if len(others) == 1 else None
        values = self.value(node)
        kinds = {bool(value[1]) if value[0] == "constant" else None for value in values}
        return kinds.pop() if len(kinds) == 1 else None

    def compared(self, left: Values, operator: ast.cmpop, right: Values) -> bool | None:
        # TensorRT's objects may be null pointers
        never_null = bool(left) and {value[0] for value in left} <= {
            "plain",
            "module",
            "class",
            "tuple",
            "list",
        }
        if never_null and right == constant(None) and isinstance(operator, (ast.Is, ast.IsNot)):
            return isinstance(operator, ast.IsNot)
        constants = len(left) == len(right) == 1 and all(
            next(iter(v))[0] == "constant" for v in (left, right)
        )
        if constants:
            one, other = next(iter(left))[1], next(iter(right))[1]
            if isinstance(operator, (ast.Is, ast.Eq)):
                return bool(one == other)
            if isinstance(operator, (ast.IsNot, ast.NotEq)):
                return bool(one != other)
        return None

    def assign(self, target: ast.expr, values: Values) -> None:
        if isinstance(target, ast.Name):
            self.env[target.id] = values
        elif isinstance(target, (ast.Tuple, ast.List)):
            for index, one in enumerate(target.elts):
                self.assign(one, self.item(values, index))
        elif isinstance(target, ast.Attribute):
            self.set_attribute(target, values)
        elif isinstance(target, ast.Subscript):
            self.value(target.value)

    def set_attribute(self, target: ast.Attribute, values: Values) -> None:
        if target.attr == "__class__" and isinstance(target.value, ast.Name):
            # pybind11 hands out base classes
            self.env[target.value.id] = frozenset(("object", one[1]) for one in values if one[0] == "class")
            return
        for owner in self.value(target.value):
            if owner[0] == "own":
                self.program.join(owner[1].attributes, target.attr, values)
            elif owner[0] == "object":
                problem = self.package.set_attribute(owner[1], target.attr, values)
                self.program.uses.add(Use(self.where(target), f"{owner[1]}.{target.attr}", problem))
        self.env[ast.unparse(target)] = values

    def narrowed(self, test: ast.expr, outcome: bool) -> Env:
        """What names and attributes are where the condition has that outcome."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return self.narrowed(test.operand, not outcome)
        if isinstance(test, ast.BoolOp) and outcome is isinstance(test.op, ast.And):
            return {key: found for one in test.values for key, found in self.narrowed(one, outcome).items()}
        none = ("constant", None)
        if isinstance(test, ast.Compare) and isinstance(test.ops[0], (ast.Is, ast.IsNot)):
            of = test.left.target if isinstance(test.left, ast.NamedExpr) else test.left
            is_none = outcome is isinstance(test.ops[0], ast.Is)
            if (
                isinstance(test.comparators[0], ast.Constant)
                and test.comparators[0].value is None
                and not is_none
            ):
                return {ast.unparse(of): self.value(of) - {none}}
        if isinstance(test, ast.Call) and ast.unparse(test.func) == "hasattr" and outcome:
            of, key = test.args
            if isinstance(key, ast.Constant):
                having = {one for one in self.value(of) if self.package.attribute(one, key.value) is not None}
                return {ast.unparse(of): frozenset(having) - {none}}
        return {}
