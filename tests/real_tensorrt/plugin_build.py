"""Builds our plugins as TensorRT's builder does, and prints what they put into an engine, as JSON.

    python plugin_build.py FOLDER '[{"operator": "x", "arch": "sm_87", "inputs": [["HALF", [-1, 4, 49, 16]]]}]'

What is called is TensorRT's own Python package, in the order in which the library calls it: the registration, the
creator, types and shapes of the outputs, formats, launch parameters, kernel. Only what lies in the library stands in:
the registry of plugins and the builder of symbolic expressions.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import tensorrt as trt
from tensorrt.plugin import _tensor

from edgefel.export.tensorrt.plugin import register_plugins
from edgefel.runtime.kernels import KernelFolder

BATCHES = (1, 3, 8)


class Registry:
    """The library's registry of plugins, by the signatures of the real one."""

    def __init__(self) -> None:
        self.creators: dict[tuple[str, str, str], Any] = {}

    def register_creator(self, creator: trt.IPluginCreatorInterface, library_namespace: str = "") -> bool:
        """Refuses a second one of a name, as the library does."""
        key = creator.name, creator.plugin_version, library_namespace
        assert key not in self.creators, f"{key} is registered twice"
        self.creators[key] = creator
        return True

    def get_creator(self, type: str, version: str, plugin_namespace: str = "") -> Any:
        return self.creators.get((type, version, plugin_namespace))


class Expression(trt.IDimensionExpr):
    """A whole number that may depend on the batch. of: batch -> number."""

    of: Callable[[int], int]
    constant: bool

    def is_constant(self) -> bool:
        return self.constant

    def get_constant_value(self) -> int:
        assert self.constant, "is asked for the value of an expression that depends on the batch"
        return self.of(0)

    def is_size_tensor(self) -> bool:
        return False


def expression(of: Callable[[int], int], constant: bool) -> Expression:
    # only the library makes them; Python's part can be had without its constructor
    made = Expression.__new__(Expression)
    made.of, made.constant = of, constant
    return made


_OPERATIONS: dict[Any, Callable[[int, int], int]] = {
    trt.DimensionOperation.SUM: lambda a, b: a + b,
    trt.DimensionOperation.SUB: lambda a, b: a - b,
    trt.DimensionOperation.PROD: lambda a, b: a * b,
    trt.DimensionOperation.FLOOR_DIV: lambda a, b: a // b,
    trt.DimensionOperation.CEIL_DIV: lambda a, b: -(-a // b),
    trt.DimensionOperation.MAX: max,
    trt.DimensionOperation.MIN: min,
}


class Expressions(trt.IExprBuilder):
    """The library's builder of expressions."""

    def __init__(self) -> None:
        trt.IExprBuilder.__init__(self)

    def constant(self, value: int) -> Expression:
        return expression(lambda batch: value, True)

    def operation(self, op: trt.DimensionOperation, first: Expression, second: Expression) -> Expression:
        call = _OPERATIONS[op]
        return expression(
            lambda batch: call(first.of(batch), second.of(batch)), first.constant and second.constant
        )


class Argument(_tensor.SymExprImpl):
    """A launch parameter, whose expression stays readable: in C++ it is a pointer to what only the library makes."""

    def __init__(self, symbol: Any) -> None:
        super().__init__(symbol)
        self.of = symbol._expr.of


class Arguments(dict[int, Any]):
    """The library's setter of scalar arguments."""

    nbSymExprs = 0


def shape_of(sides: Sequence[int]) -> list[Expression]:
    return [
        expression((lambda batch: batch) if side < 0 else (lambda batch, side=side: side), side >= 0)
        for side in sides
    ]


def described(kind: Any, sides: Sequence[int]) -> trt.DynamicPluginTensorDesc:
    """What the builder tells of a tensor: -1 for the batch, and the profile's sizes."""
    one = trt.DynamicPluginTensorDesc()
    desc = trt.PluginTensorDesc()
    desc.dims, desc.type, desc.format, desc.scale = tuple(sides), kind, trt.TensorFormat.LINEAR, 1.0
    one.desc = desc
    one.min, one.opt, one.max = (tuple(n if side < 0 else side for side in sides) for n in BATCHES)
    return one


def build(registry: Registry, operator: str, inputs: Sequence[tuple[str, list[int]]]) -> dict[str, Any]:
    """One node of a network, from the creator to the kernel."""
    creator = registry.get_creator(operator, "1", "edgefel")
    # as for a network that was created without a flag that prefers one kind of plugin
    request = trt.QuickPluginCreationRequest.UNKNOWN
    fields, phase = trt.PluginFieldCollection([]), trt.TensorRTPhase.BUILD
    plugin = creator.create_plugin(operator, "edgefel", fields, phase, request)
    kinds = [getattr(trt.DataType, name) for name, _ in inputs]
    builder = Expressions()
    types = plugin.get_output_data_types(kinds, [len(sides) for _, sides in inputs])
    exprs = plugin.get_output_shapes([shape_of(sides) for _, sides in inputs], [], builder)
    assert plugin.get_num_outputs() == len(types) == len(exprs)
    outputs = [[-1 if not side.constant else side.of(0) for side in sides] for sides in exprs]
    pairs = [*zip(kinds, (sides for _, sides in inputs), strict=True), *zip(types, outputs, strict=True)]
    in_out = [described(*pair) for pair in pairs]
    supported = plugin.get_supported_format_combinations(in_out, len(inputs))
    plugin.configure_plugin(in_out[: len(inputs)], in_out[len(inputs) :])
    tactics = plugin.get_valid_tactics()
    plugin.set_tactic(tactics[0] if tactics else 0)
    launch, extra = SimpleNamespace(), Arguments()
    plugin.get_launch_params([shape_of(s) for _, s in inputs], in_out, len(inputs), launch, extra, builder)
    descs = [one.desc for one in in_out]
    # the engine's builder copies plugins
    name, ptx = plugin.clone().get_kernel(descs[: len(inputs)], descs[len(inputs) :])
    assert extra.nbSymExprs == len(extra)
    return {
        "types": [kind.name for kind in types],
        "formats": [(one.type.name, one.format.name) for one in supported],
        "shapes": {n: [[side.of(n) for side in sides] for sides in exprs] for n in BATCHES},
        "launch": {n: {key: value.of(n) for key, value in vars(launch).items()} for n in BATCHES},
        "extra": [str(extra[index].dtype) for index in range(len(extra))],
        "name": name if isinstance(name, str) else name.decode(),
        "ptx": ptx.decode(),
    }


def main() -> None:
    """Every one of the nodes with its kernel, all in one process, as `edgefel engine` does."""
    registry = Registry()
    trt.get_plugin_registry = lambda: registry
    trt.DimsExprs = lambda length: [None] * length
    _tensor.SymExprImpl = Argument
    folder, found = KernelFolder.open(sys.argv[1]), []
    for node in json.loads(sys.argv[2]):
        kernel = folder.file(node["operator"], node["arch"])
        register_plugins(trt, {node["operator"]: kernel})
        found.append(build(registry, node["operator"], node["inputs"]))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
