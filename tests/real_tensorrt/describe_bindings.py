"""Prints what a TensorRT package has, as JSON: python describe_bindings.py tensorrt

classes: by name, those inside others as "ILogger.Severity": bases, members. A member has `doc`, the signatures that
pybind11 writes into its docstring; a property also `set`, that of its setter or None; what is neither has `value`, the
name of its class. numbers: of the members of an enum. Members of the module are those of the class "".
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from types import ModuleType
from typing import Any


def describe(module: ModuleType) -> dict[str, Any]:
    """See the module's docstring."""
    classes: dict[str, Any] = {"": {"bases": [], "members": _members(vars(module), "")}}
    waiting = [(name, value) for name, value in vars(module).items() if inspect.isclass(value)]
    while waiting:
        name, one = waiting.pop()
        if name in classes or not one.__module__.startswith(module.__name__.partition("_")[0]):
            continue
        bases = [base.__qualname__ for base in one.__mro__[1:-1]]
        inside = {key: value for base in one.__mro__[:-1] for key, value in reversed(vars(base).items())}
        classes[name] = {"bases": bases, "members": _members(inside, name)}
        if (numbers := getattr(one, "__members__", None)) is not None:
            classes[name]["numbers"] = {key: int(value) for key, value in numbers.items()}
        if "__init__" in vars(one):
            classes[name]["members"]["__init__"] = {"doc": one.__init__.__doc__ or ""}
        waiting += [(f"{name}.{key}", value) for key, value in vars(one).items() if inspect.isclass(value)]
    return {"name": module.__name__, "version": module.__version__, "classes": classes}


def _members(values: dict[str, Any], owner: str) -> dict[str, Any]:
    members = {}
    for name, value in values.items():
        if inspect.isclass(value):
            members[name] = {"class": f"{owner}.{name}".lstrip(".")}
        elif isinstance(value, property):
            setter = None if value.fset is None else value.fset.__doc__ or ""
            members[name] = {"doc": getattr(value.fget, "__doc__", "") or "", "set": setter}
        elif callable(value) or isinstance(value, staticmethod):
            members[name] = {"doc": value.__doc__ or ""}
        elif not name.startswith("__") or name in ("__members__", "__version__", "__name__"):
            members[name] = {"value": type(value).__qualname__}
    return members


if __name__ == "__main__":
    print(json.dumps(describe(importlib.import_module(sys.argv[1]))))
