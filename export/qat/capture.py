"""The network as a graph of PyTorch operators, in evaluation mode, with fake quantizers at the sites of an export.

The graph is `torch.export`'s, which the ONNX exporter starts from too. Its parameters are the model's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, fx, nn

from edgefel.calib.sites import Site
from edgefel.errors import EdgefelError
from edgefel.export.qat.fake_quant import fake_quantize, fake_quantize_weight
from edgefel.models.backbones import ShortcutConv2d, thinned
from edgefel.models.network import FacialExpressionModel

_aten = torch.ops.aten
LAYERS = (_aten.conv2d.default, _aten.linear.default)
SCALES = "scales"  # the graph's module that gives the scales
_BIAS, _STRIDE = 2, 3  # positions among the arguments of a layer


class Captured:
    """A model's graph. layers: name of a Conv2d or Linear module -> its node; modules that run twice are left out.

    model: in evaluation mode, on the device it will stay on; its attention must be the reference.
    """

    def __init__(self, model: FacialExpressionModel) -> None:
        self.model = model
        size, device = model.config.input_size, next(model.parameters()).device
        # batch 2, since torch.export takes a 1 in an example for a constant
        example = torch.zeros(2, 3, size, size, device=device)
        batch = {0: torch.export.Dim("N")}
        exported = torch.export.export(model, (example,), dynamic_shapes=(batch,)).module()
        assert isinstance(exported, fx.GraphModule)
        # torch.export's own refuses train() and eval()
        self.module = fx.GraphModule(exported, exported.graph)
        self.graph = self.module.graph
        found: dict[str, list[fx.Node]] = {}
        for node in self.graph.nodes:
            if node.target in LAYERS:
                weight = cast(fx.Node, node.args[1])
                found.setdefault(str(weight.target).removesuffix(".weight"), []).append(node)
        self.layers = {name: nodes[0] for name, nodes in found.items() if len(nodes) == 1}

    @torch.no_grad()
    def absorb_batch_norms(self) -> None:
        """Takes every BatchNorm that follows a convolution into it, in the graph and in the model.

        In the model, the weights of the convolution are scaled, and the BatchNorm is left with its shift alone: its
        mean is 0 and its factor exactly 1. The exporter then folds nothing but the shift, so that the weights of the
        file are the model's to the bit. The model gives what it gave, up to rounding.
        """
        for name, node in self.layers.items():
            follower = _only_user(node)
            if follower is None or follower.target is not _aten.batch_norm.default:
                continue
            norm = self.model.get_submodule(str(cast(fx.Node, follower.args[1]).target).rpartition(".")[0])
            conv = self.model.get_submodule(name)
            assert isinstance(norm, nn.BatchNorm2d)
            assert isinstance(conv, nn.Conv2d)
            shift = _absorb(conv, norm)
            arguments = list(node.args) + [None] * (_BIAS + 1 - len(node.args))
            with self.graph.inserting_before(node):
                arguments[_BIAS] = self.graph.get_attr(_name_of(self.model, shift))
            node.args = tuple(arguments)
            follower.replace_all_uses_with(node)
            self.graph.erase_node(follower)

    def quantize(self, sites: Mapping[str, Iterable[Site]], scales: nn.Module) -> fx.GraphModule:
        """The module with fake quantizers, once: at every site, and on the weights of the modules there.

        sites: activation -> its sites, as `activation_sites` gives them. scales: a module that gives the scales of the
        activations [A], in the order of `sites`. Raises EdgefelError for a site that the graph does not have.
        """
        self.module.add_module(SCALES, scales)
        image = self.graph.find_nodes(op="placeholder", sort=True)[-1]
        with self.graph.inserting_after(image):
            last = vector = self.graph.call_module(SCALES)
        steps: list[fx.Node] = []
        for number in range(len(sites)):
            with self.graph.inserting_after(last):
                last = self.graph.call_function(_aten.select.int, (vector, 0, number))
            steps.append(last)
        placed = [(site, step) for own, step in zip(sites.values(), steps, strict=True) for site in own]
        # outputs first: what reads a quantized output reads it in INT8 already
        done: dict[tuple[fx.Node, fx.Node], fx.Node] = {}
        for site, step in sorted(placed, key=lambda item: item[0].side != "output"):
            self._quantize_site(site, step, {image: last}, done)
        for module in dict.fromkeys(site.module for site, _ in placed if site.side == "input"):
            self._quantize_weight(self._layer(module))
        self.graph.eliminate_dead_code()
        self.graph.lint()
        self.module.recompile()
        return self.module

    def thin_shortcuts(self) -> None:
        """Makes of each `ShortcutConv2d` what it is in training: a graph in evaluation mode has not done so."""
        for name, layer in self.layers.items():
            shortcut = self.model.get_submodule(name)
            if not isinstance(shortcut, ShortcutConv2d) or shortcut.weight.device.type != "cpu":
                continue
            if (stride := shortcut.stride[0]) > 1:
                with self.graph.inserting_before(layer):
                    layer.update_arg(0, self.graph.call_function(thinned, (layer.args[0], stride)))
                layer.update_arg(_STRIDE, [1, 1])
        self.module.recompile()

    def _layer(self, module: str) -> fx.Node:
        if module not in self.layers:
            raise EdgefelError(
                f"{module}: the exported file computes it in INT8, but PyTorch's graph does not have it exactly once "
                "as a Conv2d or Linear; this network cannot be trained for INT8"
            )
        return self.layers[module]

    def _quantize_site(
        self,
        site: Site,
        step: fx.Node,
        behind: Mapping[fx.Node, fx.Node],
        done: dict[tuple[fx.Node, fx.Node], fx.Node],
    ) -> None:
        """behind: nodes that come before all scales -> where their quantizers may stand."""
        layer = self._layer(site.module)
        if site.side == "output":
            with self.graph.inserting_after(layer):
                quantized = self.graph.call_function(fake_quantize, (layer, step))
            layer.replace_all_uses_with(quantized, delete_user_cb=lambda user: user is not quantized)
            done[quantized, step] = quantized
            return
        reader, position = (layer, 0) if site.side == "input" else self._skip(site.module, layer)
        source = reader.args[position]
        assert isinstance(source, fx.Node)
        if (source, step) not in done:
            with self.graph.inserting_after(behind.get(source, source)):
                done[source, step] = self.graph.call_function(fake_quantize, (source, step))
        reader.update_arg(position, done[source, step])

    def _skip(self, module: str, layer: fx.Node) -> tuple[fx.Node, int]:
        """The sum behind a convolution, and which of its arguments is the skip connection."""
        result, reader = layer, _only_user(layer)
        if reader is not None and reader.target is fake_quantize:
            result, reader = reader, _only_user(reader)
        if reader is None or reader.target is not _aten.add.Tensor:
            raise EdgefelError(
                f"{module}: the exported file adds a skip connection to its result, and PyTorch's graph does not; "
                "this network cannot be trained for INT8"
            )
        return reader, 0 if reader.args[1] is result else 1

    def _quantize_weight(self, layer: fx.Node) -> None:
        weight = layer.args[1]
        assert isinstance(weight, fx.Node)
        with self.graph.inserting_before(layer):
            layer.update_arg(1, self.graph.call_function(fake_quantize_weight, (weight,)))


def _absorb(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Scales `conv` by `norm`; returns the parameter that holds the shift, the bias of one of them."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    factor = norm.weight.double() / (variance.double() + norm.eps).sqrt()
    before = 0.0 if conv.bias is None else conv.bias.double()
    shift = norm.bias.double() + (before - mean.double()) * factor
    conv.weight.copy_(conv.weight.double() * factor.view(-1, 1, 1, 1))
    own, other = (norm.bias, None) if conv.bias is None else (conv.bias, norm.bias)
    own.copy_(shift)
    if other is not None:
        other.zero_()
    norm.weight.fill_(1.0)
    mean.zero_()
    variance.fill_(_variance_of_one(norm.eps))
    return own


def _variance_of_one(eps: float) -> float:
    """The float32 v with v + eps == 1 in float32."""
    value = torch.tensor(1.0) - torch.tensor(eps)
    assert float(value + torch.tensor(eps)) == 1.0
    return float(value)


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _name_of(model: nn.Module, parameter: Tensor) -> str:
    return next(name for name, value in model.named_parameters() if value is parameter)
