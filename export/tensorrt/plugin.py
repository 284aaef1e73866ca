"""Our kernels inside TensorRT engines: the fused operators of an ONNX file as ahead-of-time plugins.

    chosen = prepare_plugins(trt, fused_nodes(data), folder, gpu)  # chooses and registers
    parser.parse(inlined(data, keep=chosen.kernels))

A plugin brings the PTX of a Triton kernel, its grid and its shared memory; TensorRT keeps them in the engine, which
then needs no Python. The kernels are compiled on a workstation (`edgefel pack`); nothing here needs torch, Triton or
onnx.

Source: "tensorrt.plugin" in NVIDIA's Python API reference (quickly deployable plugins, `aot_impl`): kernels take the
addresses of the inputs, then of the outputs.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from edgefel.errors import EdgefelError
from edgefel.files.write import sha256
from edgefel.runtime.engines import Gpu, described
from edgefel.runtime.kernels import INDEX, KernelFile, KernelFolder
from edgefel.runtime.onnx_functions import DOMAIN, FusedNode
from edgefel.text import one_line

_SAME_FLOAT = 1e-6  # ONNX keeps a number in 32 bits, a kernel's description in 64


@dataclass(frozen=True)
class _Interface:
    """An operator's inputs, number of outputs, and which attribute of a node says which constant of its kernel.

    describe: (tensorrt.plugin, descriptions of the inputs) -> those of the outputs.
    """

    inputs: tuple[str, ...]
    outputs: int
    constants: Mapping[str, str]
    describe: Callable[[Any, Sequence[Any]], tuple[Any, ...]]


def _describe_attention(plugin: Any, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """q [B, H, M, D], keys and values [B, M, 2HD], bias table -> [B, M, HD]."""
    batch, heads, tokens, width = (inputs[0].shape_expr[i] for i in range(4))
    return (plugin.from_shape_expr((batch, tokens, heads * width), inputs[0].dtype),)


def _describe_balance(plugin: Any, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """logits [N, C], embedding, anchors, attentive logits -> probabilities [N, C], confidence [N], primary [N, C]."""
    logits = inputs[0]
    confidence = plugin.from_shape_expr((logits.shape_expr[0],), logits.dtype)
    return logits.like(), confidence, logits.like()


_INTERFACES = {
    "window_cross_attention": _Interface(
        ("q", "kv", "bias_table"),
        1,
        {"window": "W", "heads": "H", "width": "D", "scale": "scale"},
        _describe_attention,
    ),
    "reliability_balance": _Interface(
        ("logits", "embedding", "anchors", "attentive_logits"),
        3,
        {
            "classes": "C",
            "anchors": "K",
            "width": "E",
            "attentive": "ATTENTIVE",
            "inverse_delta": "inverse_delta",
        },
        _describe_balance,
    ),
}


@dataclass(frozen=True)
class ChosenKernels:
    """kernels: operator -> the kernel that computes it. notes: why other operators are built from their bodies, a line
    each."""

    kernels: Mapping[str, KernelFile] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str | None:
        """SHA-256 of what the engine gets of the kernels; None without any."""
        if not self.kernels:
            return None
        digest = hashlib.sha256()
        for operator, kernel in sorted(self.kernels.items()):
            launch = (operator, kernel.programs_per_image, kernel.threads, kernel.shared, sha256(kernel.ptx))
            digest.update(repr(launch).encode())
        return digest.hexdigest()


def prepare_plugins(
    trt: ModuleType, nodes: Sequence[FusedNode], folder: Path | None, gpu: Gpu | None
) -> ChosenKernels:
    """`choose_kernels`, registered; a TensorRT that refuses them takes the bodies, which a note says."""
    chosen = choose_kernels(trt, nodes, folder, gpu)
    try:
        register_plugins(trt, chosen.kernels)
    except Exception as error:  # of another version's registry
        return ChosenKernels(notes=(*chosen.notes, built_from_bodies(chosen.kernels, one_line(error))))
    return chosen


def choose_kernels(
    trt: ModuleType, nodes: Sequence[FusedNode], folder: Path | None, gpu: Gpu | None
) -> ChosenKernels:
    """The compiled kernels that compute these nodes on this GPU in this TensorRT, and why not the others.

    folder: of `edgefel pack` or `edgefel kernels compile`; None where there is none. Raises EdgefelError for a folder
    that is damaged.
    """
    operators = {node.operator: node for node in nodes}
    reason = unavailable_reason(trt)
    if reason is None and folder is None:
        reason = "no compiled kernels are given; pass their folder to 'edgefel engine --kernels'"
    if reason is None and gpu is None:
        reason = "no GPU is found here, and its kernels are not known"
    if reason is not None or not operators:
        return ChosenKernels(notes=(built_from_bodies(operators, str(reason)),) if operators else ())
    assert folder is not None
    assert gpu is not None
    compiled = KernelFolder.open(folder)
    kernels: dict[str, KernelFile] = {}
    notes_by_reason: dict[str, list[str]] = {}
    for operator, node in operators.items():
        try:
            kernel = compiled.file(operator, "sm_{}{}".format(*gpu.capability))
            _check(node, kernel)
            kernels[operator] = kernel
        except EdgefelError as error:
            notes_by_reason.setdefault(str(error), []).append(operator)
    notes = tuple(built_from_bodies(found, why) for why, found in notes_by_reason.items())
    return ChosenKernels(kernels, notes)


def register_plugins(trt: ModuleType, kernels: Mapping[str, KernelFile]) -> None:
    """Registers a plugin `edgefel::OPERATOR` for each, with the kernel that computes it in the next build.

    TensorRT's registry lasts as long as the process, so an operator is registered once and its kernel exchanged
    afterwards. Raises EdgefelError where this TensorRT has no such plugins, or for an operator or PTX that is unknown.
    """
    if kernels and (reason := unavailable_reason(trt)) is not None:
        raise EdgefelError(f"engine: {reason}")
    for operator, kernel in kernels.items():
        launchable_ptx(kernel, operator)  # raises an error here rather than in TensorRT's callback
        _slot(trt, operator).kernel = kernel


def unavailable_reason(trt: ModuleType) -> str | None:
    """Why this TensorRT takes no kernels compiled ahead of time, in one line; None if it does (10.13 and later)."""
    what = f"{trt.__name__} {trt.__version__}"
    try:
        plugin = importlib.import_module(f"{trt.__name__}.plugin")
    except ImportError:
        return f"{what} has no ahead-of-time plugins (tensorrt 10.13 and later have)"
    except Exception as error:  # a part of the package that is broken
        return f"the plugins of {what} do not load ({described(error)})"
    if not hasattr(plugin, "aot_impl"):
        return f"{what} has no ahead-of-time plugins (tensorrt 10.13 and later have)"
    return None


def built_from_bodies(operators: Iterable[str], reason: str) -> str:
    """The line that says which fused operators an engine computes as a decomposed graph, and why."""
    return f"{', '.join(operators)} built from the decomposed graph: {reason}"


def find_kernels(bundle: Path) -> Path | None:
    """The folder `kernels` beside a bundle, as an unpacked archive has it; None where there is none."""
    folder = bundle.resolve().parent / "kernels"
    return folder if (folder / INDEX).is_file() else None


def launchable_ptx(kernel: KernelFile, name: str) -> str:
    """The kernel's PTX with the entry `name` and without the null pointers behind its arguments, which nobody reads.

    Triton appends those to every kernel; TensorRT gives addresses of inputs and outputs alone. Raises EdgefelError for
    PTX that is missing, does not fit its description, or reads them.
    """
    try:
        text = kernel.ptx.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise EdgefelError(f"{kernel.ptx}: cannot be read ({error}); compile the kernels again") from None
    text = re.sub(rf"\b{re.escape(kernel.entry)}(?=\b|_param_)", name, text)
    header = re.search(rf"\.entry\s+{re.escape(name)}\s*\((.*?)\)", text, re.DOTALL)
    parameters = [] if header is None else header[1].split(",")
    given = len(kernel.arguments)
    if header is None or len(parameters) != given + kernel.nulls:
        raise EdgefelError(
            f"{kernel.ptx}: has no entry with {given + kernel.nulls} parameters; compile the kernels again"
        )
    rest = text[header.end() :]
    if any(re.search(rf"\b{re.escape(one.split()[-1])}\b", rest) for one in parameters[given:]):
        raise EdgefelError(f"{kernel.ptx}: reads scratch memory, which TensorRT does not give")
    return text[: header.start(1)] + ",".join(parameters[:given]).rstrip() + "\n" + text[header.end(1) :]


class _Slot:
    """The kernel that a registered plugin has at present."""

    kernel: KernelFile


@functools.cache
def _slot(trt: ModuleType, operator: str) -> _Slot:
    """Registers the plugin of an operator, at the first call, and returns where its kernel is."""
    plugin: Any = importlib.import_module(f"{trt.__name__}.plugin")
    interface, slot, name = _interface(operator), _Slot(), f"{DOMAIN}::{operator}"

    def describe(*inputs: Any) -> Any:
        outputs = interface.describe(plugin, inputs)
        return outputs if interface.outputs > 1 else outputs[0]

    def implement(*given: Any) -> tuple[str, str, Any, Any]:
        kernel, rows = slot.kernel, given[0].shape_expr[0]
        launch = plugin.KernelLaunchParams()
        launch.grid_x = rows * kernel.programs_per_image
        launch.block_x = kernel.threads
        launch.shared_mem = kernel.shared
        return operator, launchable_ptx(kernel, operator), launch, plugin.SymIntExprs(0)

    tensor = plugin.TensorDesc
    returned = tensor if interface.outputs == 1 else tuple[(tensor,) * interface.outputs]  # type: ignore[misc]
    _sign(describe, dict.fromkeys(interface.inputs, tensor), returned)
    launched = tuple[str, str, plugin.KernelLaunchParams, plugin.SymIntExprs]
    _sign(
        implement, dict.fromkeys((*interface.inputs, "outputs", "tactic"), inspect.Parameter.empty), launched
    )
    plugin.register(name)(describe)
    plugin.aot_impl(name)(implement)
    return slot


def _sign(function: Callable[..., Any], arguments: Mapping[str, Any], returned: Any) -> None:
    """Gives a function the signature that TensorRT reads an operator's inputs and outputs from."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind, annotation=type_) for name, type_ in arguments.items()]
    function.__signature__ = inspect.Signature(parameters, return_annotation=returned)  # type: ignore[attr-defined]


def _interface(operator: str) -> _Interface:
    for name, interface in _INTERFACES.items():
        if operator == name or operator.startswith(f"{name}_"):
            return interface
    known = ", ".join(_INTERFACES)
    raise EdgefelError(
        f"operator '{operator}' of the ONNX file is unknown; known: {known}. Use a newer edgefel"
    )


def _check(node: FusedNode, kernel: KernelFile) -> None:
    """Raises EdgefelError if the kernel was compiled for other sizes or numbers than the node's."""
    for attribute, constant in _interface(node.operator).constants.items():
        wanted, there = node.attributes.get(attribute), kernel.constants.get(constant)
        numbers = isinstance(wanted, int | float) and isinstance(there, int | float)
        if not numbers or not math.isclose(wanted, there, rel_tol=_SAME_FLOAT):  # type: ignore[arg-type]
            raise EdgefelError(
                f"{kernel.ptx}: is compiled for {attribute} {there}, and the network has {wanted}; compile its own"
            )
