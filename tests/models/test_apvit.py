"""APViT: the published network's numbers, its two poolings, and what they cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from published_weights import golden, golden_input, state_dict

from edgefel.data.preprocessing import default_preprocessing
from edgefel.errors import EdgefelError
from edgefel.kernels.token_pooling.reference import best_tokens, keep_tokens, patch_scores, token_scores
from edgefel.models import ModelConfig, build_model, model_config
from edgefel.models.apvit import kept_counts
from edgefel.models.checkpoint import load_checkpoint, save_checkpoint
from edgefel.models.profile import profile
from edgefel.models.published import import_published


@pytest.fixture(scope="module")
def apvit_file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("apvit") / "apvit.pth"
    torch.save({"state_dict": state_dict("apvit")[""]}, file)
    return file


def test_it_computes_what_the_published_network_computes(apvit_file):
    imported = import_published([apvit_file], "apvit")
    assert imported.model is not None
    assert not imported.unused
    with torch.no_grad():
        out = imported.model(golden_input(side=112))
    expected = golden("apvit")
    np.testing.assert_allclose(out.embedding.numpy(), expected["embedding"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(out.logits.numpy(), expected["logits"], atol=1e-5, rtol=0)


def test_the_vectors_notice_which_tokens_are_kept(apvit_file):
    """Neither pooling nor its order of events could be left out without the golden vectors noticing."""
    model = import_published([apvit_file], "apvit").model
    expected = golden("apvit")["logits"]
    model.encoder.keep_patches = 161
    with torch.no_grad():
        other = model(golden_input(side=112)).logits.numpy()
        model.encoder.keep_patches = 160
        model.encoder.blocks[5].keep -= 1  # what the last drops nobody sees any more
        another = model(golden_input(side=112)).logits.numpy()
    assert np.abs(other - expected).max() > 1e-4
    assert np.abs(another - expected).max() > 1e-4


def test_published_numbers_of_tokens():
    assert kept_counts(160, (1.0, 1.0, 1.0, 1.0, 0.9, 0.9, 0.9, 0.9)) == (
        160,
        160,
        160,
        160,
        144,
        129,
        116,
        104,
    )
    assert kept_counts(3, (0.1, 0.5)) == (1, 1)


@pytest.mark.parametrize("keep", [1, 3, 8])
def test_of_equal_scores_the_first_is_kept_and_order_stays(keep):
    scores = torch.tensor([[1.0, 2.0, 2.0, 0.0, 2.0, 1.0, 1.0, 5.0]])
    ranked = [7, 1, 2, 4, 0, 5, 6, 3]
    assert best_tokens(scores, keep).tolist() == [sorted(ranked[:keep])]
    tokens = torch.arange(8.0)[None, :, None].expand(1, 8, 2)
    assert keep_tokens(tokens, scores, keep)[0, :, 0].tolist() == sorted(ranked[:keep])


@pytest.mark.parametrize("keep", [0, 9])
def test_numbers_that_cannot_be_kept(keep):
    with pytest.raises(ValueError, match="keep: expected 1 to 8, got"):
        best_tokens(torch.zeros(1, 8), keep)


def test_scores_are_those_of_the_paper():
    rng = np.random.default_rng(0)
    patches, products = rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 4, 6, 6))
    np.testing.assert_allclose(patch_scores(torch.from_numpy(patches)), np.abs(patches).sum(-1))
    by_hand = [[sum(products[b, h, 0, 1 + t] for h in range(4)) for t in range(5)] for b in range(2)]
    np.testing.assert_allclose(token_scores(torch.from_numpy(products)), by_hand)


def test_a_image_is_seen_by_itself():
    model = build_model("apvit-nano").eval()
    images = torch.randn(5, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = model(images).logits
        alone = torch.cat([model(image[None]).logits for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_gradients_reach_everything():
    model = build_model("apvit-nano+resizer+reliability")
    size = model.config.input_size
    out = model(torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0)))
    # the squared distance to the anchors too, which the probabilities see through confidences alone
    (out.probabilities[:, 0].log().sum() + model.head.anchors.square().sum()).backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert not without


def test_pruning_saves_what_was_promised():
    """Multiply-accumulates of the published keep numbers against none dropped; the streams cost the same."""
    published = profile(model_config("apvit"))
    whole = profile(model_config("apvit", encoder={"keep_patches": 196, "keep_rates": (1.0,) * 8}))
    assert published.parameters == whole.parameters
    tokens, dropped, d, hidden = 197, [161, 161, 161, 161, 161, 145, 130, 117], 768, 2304
    after = [161, 161, 161, 161, 145, 130, 117, 105]
    block = lambda n, m: 4 * n * d * d + 2 * n * n * d + 2 * m * d * hidden  # noqa: E731
    saved = 8 * block(tokens, tokens) - sum(block(n, m) for n, m in zip(dropped, after, strict=True))
    assert whole.macs - published.macs == saved


def test_checkpoints_tell_the_encoder(tmp_path):
    model = build_model("apvit-nano+reliability", encoder={"keep_patches": 100})
    save_checkpoint(tmp_path / "one", model, [str(i) for i in range(7)], default_preprocessing(112).to_dict())
    loaded = load_checkpoint(tmp_path / "one")
    assert loaded.config == model.config
    images = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        assert torch.equal(loaded.model(images).logits, model.eval()(images).logits)
    # configurations written before there was a second encoder name no kind
    old = model_config("arbex-nano").to_dict()
    del old["encoder"]["kind"]
    assert ModelConfig.from_dict(old) == model_config("arbex-nano")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": {"keep_patches": 0}}, "keep_patches"),
        ({"encoder": {"keep_patches": 197}}, "keep_patches"),
        ({"encoder": {"keep_rates": ()}}, "keep_rates"),
        ({"encoder": {"keep_rates": (1.0, 0.0)}}, "keep_rates"),
        ({"encoder": {"vit_heads": 7}}, "divisible"),
        ({"encoder": {"windows": (1, 1, 1)}}, "unknown entries"),
        ({"input_size": 100}, "multiple of 112"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(EdgefelError, match=message):
        model_config("apvit-nano", **settings)


def test_unknown_kind_of_encoder():
    data = model_config("apvit-nano").to_dict()
    data["encoder"]["kind"] = "resnet"
    with pytest.raises(EdgefelError, match="unknown encoder 'resnet'; known: window-pyramid, apvit"):
        ModelConfig.from_dict(data)
