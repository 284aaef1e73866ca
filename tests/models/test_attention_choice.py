"""The same weights give the same results with the kernels and with plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from exported import TINY_ENCODER

from edgefel.errors import EdgefelError
from edgefel.models import build_model
from edgefel.models.network import FacialExpressionModel

APVIT_ENCODER = {"image_units": (1, 1, 1), "keep_rates": (1.0, 0.9, 0.9)}
# float32 results of two orders of summation, through the whole network
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def nano(**settings) -> FacialExpressionModel:
    torch.manual_seed(0)
    return build_model("arbex-nano", encoder=dict(TINY_ENCODER), **settings)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def kernels_run() -> torch.device:
    """Where the Triton kernels run here: a GPU, or the CPU by the interpreter."""
    pytest.importorskip("triton")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def test_an_unknown_choice_is_refused():
    with pytest.raises(
        EdgefelError, match="attention: 'flash' is unknown; choose one of auto, reference, triton"
    ):
        nano(attention="flash")


def test_the_choice_is_no_part_of_the_configuration():
    assert nano(attention="reference").config == nano().config


def test_inference_agrees_and_runs_the_kernels(images, kernels_run, monkeypatch):
    model = nano().eval().to(kernels_run)
    images = images.to(kernels_run)
    with torch.no_grad():
        expected = model.use_attention("reference")(images)
        called = count_calls(monkeypatch)
        found = model.use_attention("triton")(images)
    assert called == {"window_cross_attention": 3, "reliability_balance": 1}
    for name, out, truth in zip(found._fields, found, expected, strict=True):
        torch.testing.assert_close(out, truth, **TOLERANCE, msg=lambda text, name=name: f"{name}: {text}")


def test_poster_runs_the_kernels_too(images, kernels_run, monkeypatch):
    torch.manual_seed(0)
    model = (
        build_model("poster-v2-nano", encoder=dict(TINY_ENCODER), attention="triton").eval().to(kernels_run)
    )
    called = count_calls(monkeypatch)
    with torch.no_grad():
        found = model(images[:1].to(kernels_run))
        expected = model.use_attention("reference")(images[:1].to(kernels_run))
    assert called == {"window_cross_attention": 3}
    torch.testing.assert_close(found.probabilities, expected.probabilities, **TOLERANCE)


@pytest.mark.slow
def test_a_training_step_agrees(images, kernels_run, monkeypatch):
    """Every gradient of a step in training mode is as near to the float64 truth with kernels as without."""
    gradients = {}
    for choice, dtype in (("truth", torch.float64), ("reference", torch.float32), ("triton", torch.float32)):
        model = nano(head={"dropout": 0.0}).to(kernels_run, dtype)
        model.use_attention("triton" if choice == "triton" else "reference")
        called = count_calls(monkeypatch)
        prediction = model(images.to(kernels_run, dtype), ramp=0.5)
        (-prediction.probabilities[:, 3].log().mean()).backward()
        assert called == ({"window_cross_attention": 3, "anchor_softmax": 1} if choice == "triton" else {})
        gradients[choice] = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients["triton"].keys() == gradients["truth"].keys()
    # batch norm over two images amplifies rounding, so the yardstick is what plain PyTorch loses
    for name, truth in gradients["truth"].items():
        scale = truth.norm().clamp_min(1e-9)
        plain, fused = ((gradients[c][name] - truth).norm() / scale for c in ("reference", "triton"))
        assert fused < 5 * plain + 1e-4, f"{name}: {fused:.1e} with kernels, {plain:.1e} without"


def test_compile_and_export_see_one_op(images, kernels_run):
    model = nano(attention="triton").eval().to(kernels_run)
    found = []

    def backend(graph: torch.fx.GraphModule, example_inputs: object):
        found.extend(str(node.target) for node in graph.graph.nodes if "edgefel" in str(node.target))
        return graph.forward

    with torch.no_grad():
        torch.compile(model, backend=backend, fullgraph=True)(images[:1].to(kernels_run))
        program = torch.export.export(model, (images[:1].to(kernels_run),))
    assert sum("window_cross_attention" in name for name in found) == 3
    assert sum("reliability_balance" in name for name in found) == 1
    exported = [str(node.target) for node in program.graph.nodes if "edgefel" in str(node.target)]
    assert sum("window_cross_attention" in name for name in exported) == 3


def test_auto_exports_the_reference(images):
    with torch.no_grad():
        program = torch.export.export(nano(attention="auto").eval(), (images,))
    assert not [node for node in program.graph.nodes if "edgefel" in str(node.target)]


def apvit(choice: str) -> FacialExpressionModel:
    torch.manual_seed(0)
    return build_model("apvit-nano", encoder=dict(APVIT_ENCODER), attention=choice)


def test_apvit_drops_its_tokens_by_the_kernels(images, kernels_run, monkeypatch):
    model, images = apvit("triton").eval().to(kernels_run), images.to(kernels_run)
    called = count_calls(monkeypatch)
    with torch.no_grad():
        found = model(images)
        assert called == {"pool_patches": 1, "pool_tokens": 2}
        expected = model.use_attention("reference")(images)
    assert called == {"pool_patches": 1, "pool_tokens": 2}
    torch.testing.assert_close(found.probabilities, expected.probabilities, **TOLERANCE)


def test_a_training_step_of_apvit_agrees(images, kernels_run):
    gradients = {}
    for choice in ("reference", "triton"):
        model = apvit(choice).to(kernels_run)
        (-model(images.to(kernels_run)).probabilities[:, 3].log().mean()).backward()
        gradients[choice] = {name: p.grad for name, p in model.named_parameters()}
    for name, truth in gradients["reference"].items():
        torch.testing.assert_close(
            gradients["triton"][name], truth, **TOLERANCE, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_apvit_compiles_with_the_ops_and_exports_without(images, kernels_run):
    model, images = apvit("triton").eval().to(kernels_run), images.to(kernels_run)
    found = []

    def backend(graph: torch.fx.GraphModule, example_inputs: object):
        found.extend(str(node.target) for node in graph.graph.nodes if "edgefel" in str(node.target))
        return graph.forward

    with torch.no_grad():
        torch.compile(model, backend=backend, fullgraph=True)(images)
        program = torch.export.export(model, (images,))
    assert sum("pool_patches" in name for name in found) == 1
    assert sum("pool_tokens" in name for name in found) == 2
    # an exported graph has TopK, whatever was chosen
    targets = [str(node.target) for node in program.graph.nodes]
    assert not [name for name in targets if "edgefel" in name]
    assert sum("topk" in name for name in targets) == 3


def count_calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each kernel op is called from now on."""
    from edgefel.kernels.anchor_softmax import op as anchor_op
    from edgefel.kernels.reliability_balance import op as balance_op
    from edgefel.kernels.token_pooling import op as pooling_op
    from edgefel.kernels.window_cross_attention import op as attention_op

    monkeypatch.undo()
    calls: dict[str, int] = {}
    for module, name in (
        (attention_op, "window_cross_attention"),
        (anchor_op, "anchor_softmax"),
        (balance_op, "reliability_balance"),
        (pooling_op, "pool_patches"),
        (pooling_op, "pool_tokens"),
    ):
        original = getattr(module, name)

        def counted(*args, name=name, original=original, **kwargs):
            calls[name] = calls.get(name, 0) + 1
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, counted)
    return calls
