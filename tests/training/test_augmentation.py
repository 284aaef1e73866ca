"""The fused augmentation against kornia's separate operations, and its independence of the shards."""

from __future__ import annotations

import math

import kornia
import pytest
import torch

from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.training.augmentation import Augmentation, Mixing, Mixture, colour_maps, draw, sampling_maps
from edgefel.training.config import AugmentConfig
from edgefel.training.distributed import Shard
from edgefel.training.randomness import Purpose, generator

SIZE = Preprocessing(resize=40, crop=33)
OFF = {
    "flip": 0.0,
    "rotation": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
    "noise": 0.0,
    "erase_probability": 0.0,
}


def images(count: int = 6, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 40, 40), generator=rng, dtype=torch.uint8)


def unnormalised(batch: torch.Tensor) -> torch.Tensor:
    return batch * torch.tensor(SIZE.std).view(3, 1, 1) + torch.tensor(SIZE.mean).view(3, 1, 1)


def offsets_of(seed: int, count: int) -> torch.Tensor:
    rng = generator(seed, Purpose.AUGMENTATION, 0, 0)
    return draw(AugmentConfig(**OFF), count, 7, 33, rng).offset.long()


def test_with_everything_off_it_is_an_exact_random_crop():
    batch = images(32)
    out = unnormalised(Augmentation(AugmentConfig(**OFF), SIZE, seed=5)(batch, 0, 0))
    offsets = offsets_of(5, 32)
    for image, result, (left, top) in zip(batch, out, offsets.tolist(), strict=True):
        expected = image[:, top : top + 33, left : left + 33].float() / 255
        torch.testing.assert_close(result, expected, atol=2e-4, rtol=0)
    assert len(offsets.unique(dim=0)) > 16
    assert offsets.amin() == 0
    assert offsets.amax() == 7


def test_flip_mirrors_the_crop():
    batch = images(4)
    plain = Augmentation(AugmentConfig(**OFF), SIZE, seed=1)(batch, 0, 0)
    mirrored = Augmentation(AugmentConfig(**{**OFF, "flip": 1.0}), SIZE, seed=1)(batch, 0, 0)
    torch.testing.assert_close(mirrored, plain.flip(-1), atol=1e-3, rtol=0)


def test_a_rotation_turns_about_the_middle_of_the_crop():
    rng = torch.Generator().manual_seed(0)
    draws = draw(AugmentConfig(rotation=30.0, flip=0.5), 50, 7, 33, rng)
    maps = sampling_maps(draws, 33, 40)
    # the middle of the crop is where its coordinates are 0; the source's go from -1 to 1 over 39 pixels
    comes_from = (maps[:, :, 2] + 1) * 39 / 2
    torch.testing.assert_close(comes_from, draws.offset + 16)
    determinant = torch.linalg.det(maps[:, :, :2] * 39 / 32)
    torch.testing.assert_close(determinant, draws.flip)  # no zoom
    assert draws.angle.abs().max() <= math.radians(30)
    assert draws.angle.std() > math.radians(10)


def test_cutting_out_equals_kornias_warp_by_the_forward_map():
    """Cut out, rotate and zoom about the middle, then mirror, written down in pixels and inverted by kornia."""
    config = AugmentConfig(**{**OFF, "flip": 0.5, "rotation": 25.0, "zoom": 0.3})
    batch = images(16)
    out = unnormalised(Augmentation(config, SIZE, seed=3)(batch, 0, 0))
    draws = draw(config, 16, 7, 33, generator(3, Purpose.AUGMENTATION, 0, 0))
    assert draws.flip.unique().numel() == 2
    cos, sin = draws.angle.cos(), draws.angle.sin()
    turn = torch.stack([cos * draws.flip, -sin * draws.flip, sin, cos], 1).view(-1, 2, 2)
    assert 1 / 1.3 < draws.zoom.min() < 0.9 < 1.1 < draws.zoom.max() < 1.3
    turn = turn * draws.zoom[:, None, None]
    forward = torch.cat([turn, 16 - turn @ (draws.offset + 16).unsqueeze(2)], 2)
    expected = kornia.geometry.warp_affine(batch.float() / 255, forward, (33, 33), padding_mode="border")
    torch.testing.assert_close(out, expected, atol=3e-4, rtol=0)


def test_the_colour_map_equals_kornias_separate_operations():
    rng = torch.Generator().manual_seed(2)
    config = AugmentConfig(brightness=0.1, contrast=0.1, saturation=0.1, hue=0.0)
    draws = draw(config, 8, 7, 33, rng)
    # far enough from 0 and 1 that kornia's clamps between the operations do nothing
    pixels = torch.rand(8, 3, 9, 11, generator=rng) * 0.3 + 0.35
    matrix, offset = colour_maps(draws, pixels.mean((2, 3)))
    fused = torch.baddbmm(offset, matrix, pixels.flatten(2)).view_as(pixels)
    expected = kornia.enhance.adjust_brightness_accumulative(pixels, draws.brightness)
    expected = kornia.enhance.adjust_contrast_with_mean_subtraction(expected, draws.contrast)
    expected = kornia.enhance.adjust_saturation_with_gray_subtraction(expected, draws.saturation)
    torch.testing.assert_close(fused, expected, atol=2e-3, rtol=0)


def test_hue_turns_colours_and_leaves_greys_and_luma():
    rng = torch.Generator().manual_seed(2)
    draws = draw(AugmentConfig(**{**OFF, "hue": 40.0}), 6, 7, 33, rng)
    pixels = torch.rand(6, 3, 5, 5, generator=rng)
    matrix, offset = colour_maps(draws, pixels.mean((2, 3)))
    turned = torch.baddbmm(offset, matrix, pixels.flatten(2)).view_as(pixels)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    torch.testing.assert_close((turned * luma).sum(1), (pixels * luma).sum(1), atol=1e-5, rtol=0)
    assert (turned - pixels).abs().amax() > 0.05
    torch.testing.assert_close(matrix.sum(2), torch.ones(6, 3), atol=1e-5, rtol=0)


def test_erasing_covers_five_percent_with_the_mean_colour():
    config = AugmentConfig(**{**OFF, "erase_probability": 1.0, "erase_area": 0.05})
    big = Preprocessing(resize=128, crop=112)
    batch = torch.full((64, 3, 128, 128), 255, dtype=torch.uint8)
    erased = (Augmentation(config, big, 0)(batch, 0, 0) == 0).all(1).float().mean((1, 2))
    assert erased.mean().item() == pytest.approx(0.05, abs=0.001)
    assert erased.amin() > 0.04
    assert erased.amax() < 0.06


def test_noise_has_the_drawn_strength_and_differs_between_images():
    config = AugmentConfig(**{**OFF, "noise": 0.1})
    batch = torch.full((8, 3, 40, 40), 128, dtype=torch.uint8)
    noisy = unnormalised(Augmentation(config, SIZE, 0)(batch, 0, 0)) - 128 / 255
    deviations = noisy.flatten(1).std(1)
    assert 0 < deviations.amin() < deviations.amax() < 0.11
    scaled = noisy.flatten(1) / deviations[:, None]
    assert scaled.mean(1).abs().amax() < 0.06
    correlation = scaled @ scaled.T / scaled.shape[1] - torch.eye(8)
    assert correlation.abs().amax() < 0.1


@pytest.mark.parametrize("world", [2, 3])
def test_shards_get_exactly_their_part_of_the_global_batch(world):
    batch = images(6)
    whole = Augmentation(AugmentConfig(), SIZE, 9)(batch, 3, 4)
    for rank in range(world):
        part = Shard(rank, world).slice(6)
        result = Augmentation(AugmentConfig(), SIZE, 9)(batch[part], 3, 4, Shard(rank, world))
        torch.testing.assert_close(result, whole[part], atol=1e-5, rtol=0)


def test_steps_epochs_and_seeds_differ_and_repeat():
    batch = images(2)
    first = Augmentation(AugmentConfig(), SIZE, 9)(batch, 3, 4)
    assert torch.equal(first, Augmentation(AugmentConfig(), SIZE, 9)(batch, 3, 4))
    for seed, epoch, step in ((8, 3, 4), (9, 2, 4), (9, 3, 5), (9, 4, 3)):
        assert not torch.equal(first, Augmentation(AugmentConfig(), SIZE, seed)(batch, epoch, step))
    assert first.dtype == torch.float32
    assert first.shape == (2, 3, 33, 33)
    assert batch.equal(images(2))


def test_mixed_images_and_labels_have_the_same_shares():
    """Of images of one value each: their means tell what of each is in a mixture."""
    target = torch.arange(6)
    batch = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 32, 32)
    shares = []
    for step in range(40):
        for settings in ({"mixup": 0.5}, {"cutmix": 1.0}, {"mixup": 0.5, "cutmix": 1.0}):
            mixed, mixture = Mixing(AugmentConfig(**settings), seed=3)(batch, 0, step)
            rows = mixture.of(target, 6)
            torch.testing.assert_close(rows.sum(1), torch.ones(6))
            torch.testing.assert_close(mixed.mean((1, 2, 3)), rows @ torch.arange(6.0), atol=1e-4, rtol=1e-4)
            values = mixed[0].unique()
            assert set(rows[0].nonzero().flatten().tolist()) <= {0, 1}, "not the neighbour"
            if "mixup" not in settings:
                assert set(values.tolist()) <= {0.0, 1.0}
            elif "cutmix" not in settings:
                assert values.amax() - values.amin() < 1e-5
            shares.append(float(rows[0, 0]))
    assert 0.3 < sum(shares) / len(shares) < 0.7
    assert min(shares) < 0.1
    assert max(shares) > 0.9


def test_mixing_takes_soft_labels_and_leaves_an_odd_image_alone():
    batch, rows = torch.rand(5, 3, 8, 8), torch.rand(5, 4).softmax(1)
    mixing = Mixing(AugmentConfig(mixup=1.0), seed=0)
    mixed, mixture = mixing(batch, 2, 7)
    targets = mixture.of(rows, 4)
    assert torch.equal(mixed[4], batch[4])
    assert torch.equal(targets[4], rows[4])
    again, _ = mixing(batch, 2, 7)
    assert torch.equal(mixed, again)
    other, _ = mixing(batch, 2, 8)
    assert not torch.equal(mixed, other)
    # the shards of two processes
    first, _ = mixing(batch[:2], 2, 7)
    assert torch.equal(first, mixed[:2])


def test_without_mixing_nothing_changes():
    batch, target = torch.rand(4, 3, 8, 8), torch.arange(4)
    mixed, mixture = Mixing(AugmentConfig(), seed=0)(batch, 0, 0)
    assert mixed is batch
    assert mixture.of(target, 4) is target


def test_of_a_mixed_image_the_share_of_the_class_found_counts():
    probabilities, target = torch.eye(3)[torch.tensor([0, 2, 1, 0])], torch.tensor([0, 1, 1, 2])
    assert Mixture().found(probabilities, target) == 2
    assert Mixture().found(probabilities, torch.eye(3)[target]) == 2
    # images 0 and 1 are 0.75 of themselves and 0.25 of each other, as are 2 and 3
    mixture = Mixture(torch.tensor([1, 0, 3, 2]), 0.75)
    assert mixture.found(probabilities, target).item() == pytest.approx(0.75 + 0.0 + 0.75 + 0.0)
    assert mixture.found(torch.eye(3)[torch.tensor([1, 0, 2, 1])], target).item() == pytest.approx(1.0)


def test_shards_that_separate_pairs_are_refused():
    """The images of a pair would depend on the number of processes."""
    on, off = AugmentConfig(cutmix=1.0), AugmentConfig()
    for config, size, world in ((on, 6, 1), (on, 5, 1), (on, 8, 2), (off, 6, 2)):
        Mixing.check(config, size, world)
    with pytest.raises(EdgefelError, match="batch_size 6 over 2 processes gives each 3 .* a multiple of 4"):
        Mixing.check(on, 6, 2)
