"""The weights of a network back from its FP32 graph: what tracing and the passes made of each module, undone.

Nodes are named after the modules they come from, and most weights are there as they were, some transposed. Not there:

- BatchNorm that went into the layer beside it. The layer keeps its merged weights, and the BatchNorm becomes the
  identity, plus the merged bias where the layer has none of its own.
- the matrices of one-token attention, of which the graph has the product: it goes into the last, the others become the
  identity.
- cls_token and the position added to it, of which the graph has the sum: it goes into cls_token.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import NodeProto
from torch import Tensor, nn

from edgefel.calib.graph import GraphIndex, attribute, node_scope
from edgefel.errors import EdgefelError
from edgefel.export.onnx.passes import gather_prelu
from edgefel.kernels.window_cross_attention.reference import relative_position_bias
from edgefel.models.apvit import APViTEncoder
from edgefel.models.encoder import Encoder, FusionLevel, WindowCrossAttention
from edgefel.models.network import FacialExpressionModel
from edgefel.models.reliability import AttentiveCorrection, ReliabilityHead

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_NORM_ENTRIES = ("weight", "bias", "running_mean", "running_var")


def load_graph_weights(model: FacialExpressionModel, graph: onnx.ModelProto) -> tuple[str, ...]:
    """Gives `model` the weights of a graph of `export_onnx`, in place; it then computes what the graph computes.

    Returns the names of the BatchNorms that the graph no longer has: they became the identity, with mean 0 and variance
    1. Raises EdgefelError for a module whose weights are not in the graph, or have another shape there.
    """
    found = _GraphWeights(graph)
    merged: dict[str, Tensor] = {}  # bias of a convolution that has none of its own
    identities = []
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, BATCH_NORMS):
                if not found.batch_norm(name, module):
                    identities.append(name)
            elif isinstance(module, nn.Conv2d):
                if (bias := found.convolution(name, module)) is not None:
                    merged[name] = bias
            else:
                found.other(name, module)
        _bias_behind(model, merged, set(identities))
    return tuple(identities)


class _GraphWeights:
    """Look-ups of constants by the module that reads them; each method sets one module's weights."""

    def __init__(self, graph: onnx.ModelProto) -> None:
        gathered, _ = gather_prelu(graph)  # the file for ONNX Runtime has Max(x, a x)
        self.index = GraphIndex(gathered.graph)
        self.scopes: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.index.order:
            self.scopes[node_scope(node)].append(node)

    def convolution(self, name: str, module: nn.Conv2d) -> Tensor | None:
        """Returns the bias that the graph has and the module has not."""
        node = self._node(name, "Conv")
        self._set(f"{name}.weight", module.weight, self._constant(node, 1))
        bias = self._constant(node, 2)
        if module.bias is None:
            return bias
        self._set(f"{name}.bias", module.bias, torch.zeros_like(module.bias) if bias is None else bias)
        return None

    def batch_norm(self, name: str, module: nn.BatchNorm1d | nn.BatchNorm2d) -> bool:
        """Whether the graph has it."""
        nodes = list(self._nodes(name, "BatchNormalization"))
        if not nodes:
            nn.init.zeros_(module.bias)
            set_statistics(
                module, torch.zeros_like(module.bias), torch.full_like(module.bias, 1.0 - module.eps)
            )
            return False
        entries = (getattr(module, kind) for kind in _NORM_ENTRIES)
        for position, (kind, entry) in enumerate(zip(_NORM_ENTRIES, entries, strict=True), start=1):
            self._set(f"{name}.{kind}", entry, self._constant(nodes[0], position))
        return True

    def other(self, name: str, module: nn.Module) -> None:
        """Anything but a convolution or a BatchNorm."""
        if isinstance(module, nn.Linear):
            if not self._in_folded_attention(name):
                self._linear(name, module)
        elif isinstance(module, nn.LayerNorm):
            node = self._node(name, "LayerNormalization")
            bias = self._constant(node, 2)
            self._set(f"{name}.weight", module.weight, self._constant(node, 1))
            self._set(f"{name}.bias", module.bias, torch.zeros_like(module.bias) if bias is None else bias)
        elif isinstance(module, nn.PReLU):
            slopes = self._constant(self._node(name, "PRelu"), 1)
            self._set(f"{name}.weight", module.weight, None if slopes is None else slopes.flatten())
        elif isinstance(module, WindowCrossAttention):
            self._position_bias(name, module)
        elif isinstance(module, Encoder | APViTEncoder):
            self._tokens(name, module)
        elif isinstance(module, AttentiveCorrection):
            if self._in_folded_attention(name):
                self._attention(name, module)
        elif isinstance(module, FusionLevel):
            self._in_order(name, module, "Mul")  # layer scale
        elif isinstance(module, ReliabilityHead):
            self._in_order(name, module, "Sub")  # the anchors [C, K, E] as [1, C, K, E]
        else:
            assert not list(module.parameters(recurse=False)), name

    def _linear(self, name: str, module: nn.Linear) -> None:
        weight, bias = self._matrix(name)
        self._set(f"{name}.weight", module.weight, weight)
        if module.bias is not None:
            # the exporter leaves out a bias of zeros
            self._set(f"{name}.bias", module.bias, torch.zeros_like(module.bias) if bias is None else bias)

    def _matrix(self, name: str) -> tuple[Tensor, Tensor | None]:
        """Weight [out, in] and bias [out] of the Linear in scope `name`, written as Gemm, or MatMul and Add."""
        for node in self._nodes(name, "Gemm", "MatMul"):
            weight = self._constant(node, 1)
            if weight is None:
                continue
            if node.op_type == "Gemm":
                return weight if attribute(node, "transB", 0) else weight.T, self._constant(node, 2)
            for add in self._nodes(name, "Add"):
                for position in (0, 1):
                    if (bias := self._constant(add, position)) is not None:
                        return weight.T, bias
            return weight.T, None
        raise _missing(name)

    def _position_bias(self, name: str, module: WindowCrossAttention) -> None:
        """The graph has the bias of each pair of positions [.., H, M, M]; each offset is a row of the table."""
        table = module.relative_position_bias_table
        m = module.window**2
        for value in self._constants(name):
            if value.ndim >= 3 and value.shape[-2:] == (m, m):
                rows = torch.arange(len(table))[:, None]
                pairs = relative_position_bias(rows, module.window).flatten()  # the table's row of each pair
                values = value.reshape(-1, m * m).T  # [M * M, H]
                found = torch.zeros(len(table), values.shape[1])
                found[pairs] = values
                self._set(f"{name}.relative_position_bias_table", table, found)
                return
        raise _missing(f"{name}.relative_position_bias_table")

    def _tokens(self, name: str, module: Encoder | APViTEncoder) -> None:
        """cls_token with its position is the first row of what is added behind the Pad."""
        for node in self._nodes(name, "Add"):
            if any(self.index.producer(tensor, "Pad") for tensor in node.input):
                table = next((v for v in (self._constant(node, i) for i in (0, 1)) if v is not None), None)
                break
        else:
            table = None
        if table is None or table.ndim != 3:
            raise _missing(f"{name}.cls_token")
        self._set(f"{name}.cls_token", module.cls_token, table[:, :1])
        if isinstance(module, APViTEncoder):
            module.cls_pos_embed.zero_()
            patches = self._named(f"{name}.patch_pos_embed")
            self._set(f"{name}.patch_pos_embed", module.patch_pos_embed, patches)
        else:
            positions = table.clone()
            positions[:, 0] = 0
            self._set(f"{name}.pos_embed", module.pos_embed, positions)

    def _in_folded_attention(self, name: str) -> bool:
        scope = "head.attentive"
        return (name == scope or name.startswith(f"{scope}.")) and "head.folded" in self.scopes

    def _attention(self, name: str, module: AttentiveCorrection) -> None:
        weight, bias = self._matrix("head.folded")
        for layer in (module.query, module.key, module.value, module.project):
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)
        self._set(f"{name}.to_logits.weight", module.to_logits.weight, weight)
        zeros = torch.zeros_like(module.to_logits.bias)
        self._set(f"{name}.to_logits.bias", module.to_logits.bias, zeros if bias is None else bias)

    def _in_order(self, name: str, module: nn.Module, op_type: str) -> None:
        """Parameters of a module that has others inside, in the order in which its nodes of that type read them: equal
        ones are one constant, so that their names say nothing. A first axis of 1 may be there too."""
        values = [
            value
            for node in self._nodes(name, op_type)
            for position in range(len(node.input))
            if (value := self._constant(node, position)) is not None and value.ndim
        ]
        own = list(module.named_parameters(recurse=False))
        for (kind, parameter), value in zip(own, values + [None] * len(own), strict=False):
            self._set(f"{name}.{kind}", parameter, value)

    def _nodes(self, scope: str, *op_types: str) -> Iterator[NodeProto]:
        return (node for node in self.scopes.get(scope, ()) if node.op_type in op_types)

    def _node(self, scope: str, op_type: str) -> NodeProto:
        for node in self._nodes(scope, op_type):
            return node
        raise _missing(scope)

    def _constant(self, node: NodeProto, position: int) -> Tensor | None:
        value = self.index.constant(node.input[position]) if position < len(node.input) else None
        if value is None or value.dtype != np.float32:
            return None
        return torch.from_numpy(value.copy())

    def _constants(self, scope: str) -> Iterator[Tensor]:
        for node in self.scopes.get(scope, ()):
            for position in range(len(node.input)):
                if (value := self._constant(node, position)) is not None:
                    yield value

    def _named(self, tensor: str) -> Tensor | None:
        value = self.index.constant(tensor)
        return None if value is None or value.dtype != np.float32 else torch.from_numpy(value.copy())

    def _set(self, name: str, entry: Tensor, value: Tensor | None) -> None:
        if value is None:
            raise _missing(name)
        if value.shape != entry.shape and value.numel() == entry.numel():
            value = value.reshape(entry.shape)
        if value.shape != entry.shape:
            raise EdgefelError(f"{name} has shape {tuple(value.shape)} there, not {tuple(entry.shape)}")
        entry.copy_(value)


def _bias_behind(model: FacialExpressionModel, merged: Mapping[str, Tensor], identities: set[str]) -> None:
    """Adds the biases of convolutions to the identities that read their results."""
    made: list[tuple[str, Tensor]] = []
    rest = dict(merged)

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs, result: made.append((name, result))

    def shift(module: Any, inputs: tuple[Tensor, ...]) -> None:
        for name, result in made:
            if result is inputs[0] and name in rest:
                module.bias += rest.pop(name)

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in merged]
    handles += [model.get_submodule(name).register_forward_pre_hook(shift) for name in identities]
    size = model.config.input_size
    model.eval()(torch.zeros(1, 3, size, size))
    for handle in handles:
        handle.remove()
    if rest:
        raise EdgefelError(
            f"{next(iter(rest))} has a bias there, and no BatchNorm behind it that could have it"
        )


def measure_statistics(
    model: FacialExpressionModel, names: Sequence[str], batches: Iterable[Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance, float64 [C], of what the named BatchNorms read, over images in batches [B, 3, S, S].

    Dropout and drop path are as in training, whose statistics these are; BatchNorm is as in evaluation.
    """
    found: dict[str, tuple[int, Tensor, Tensor]] = {}

    def collect(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0]
            axes = [axis for axis in range(x.ndim) if axis != 1]
            variance, mean = (value.double() for value in torch.var_mean(x, axes, correction=0))
            count = x.numel() // x.shape[1]
            if name in found:
                before, old_mean, old_variance = found[name]
                share = count / (before + count)
                # of two parts: within both, and between them (Chan et al., 1979)
                between = (mean - old_mean).square() * share * (1 - share)
                variance = old_variance + (variance - old_variance) * share + between
                mean = old_mean + (mean - old_mean) * share
                count += before
            found[name] = count, mean, variance

        return hook

    handles = [model.get_submodule(name).register_forward_pre_hook(collect(name)) for name in names]
    model.train()
    for module in model.modules():
        if isinstance(module, BATCH_NORMS):
            module.eval()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for handle in handles:
        handle.remove()
    model.eval()
    return {name: (mean, variance) for name, (_, mean, variance) in found.items()}


def set_statistics(norm: nn.Module, mean: Tensor, variance: Tensor) -> None:
    """Gives a BatchNorm that only shifts by its bias these running statistics; in evaluation it shifts as before.

    In training, where batches have about these statistics, it does nearly the same.
    """
    assert isinstance(norm, BATCH_NORMS)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance.double() + norm.eps).sqrt())
        norm.bias.add_(norm.running_mean)


def _missing(name: str) -> EdgefelError:
    return EdgefelError(f"has no weights of {name}")
