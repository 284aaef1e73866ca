"""Augmentation of whole batches: one geometric resampling, one colour map, noise, erasing, normalisation.

The recipe of ARBEx section 4.2 (crop, flip, rotation, colour jitter, noise, random erasing with p = 1 and
5 % of the area). Crop, flip and rotation are one affine map and one bilinear resampling; brightness,
contrast, saturation and hue are one 3x4 matrix per image. Going through HSV for the last two costs ten
times as much on a CPU and looks the same at these strengths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, one_hot

from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError
from edgefel.text import counted
from edgefel.training.config import AugmentConfig
from edgefel.training.distributed import Shard
from edgefel.training.randomness import Purpose, derive_seed, generator

# ITU-R BT.601 luma and the two chroma axes (YIQ); rotating the chroma plane changes the hue only.
_TO_YIQ = (
    (0.299, 0.587, 0.114),
    (0.595716, -0.274453, -0.321263),
    (0.211456, -0.522591, 0.311135),
)
_LUMA = _TO_YIQ[0]
_ERASE_RATIO = (0.3, 1 / 0.3)
_NOISE_POOL = 1 << 21


@dataclass(frozen=True)
class Draws:
    """Random parameters for B images, all float32 on the CPU.

    offset [B, 2]: left and top of the crop in whole pixels; flip [B]: +1 or -1; angle [B]: radians;
    brightness, contrast, saturation [B]: factors; hue [B]: radians; noise [B]: standard deviation on the
    scale 0..1; noise_start [B]: where the image's noise starts in the pool, in 0..1; box [B, 4]: left,
    top, right, bottom of the erased rectangle in pixels (empty where nothing is erased); zoom [B]: factor on
    the size of the face.
    """

    offset: Tensor
    flip: Tensor
    angle: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    noise: Tensor
    noise_start: Tensor
    box: Tensor
    zoom: Tensor

    def part(self, where: slice) -> Draws:
        """The parameters of some of the images."""
        return Draws(**{name: value[where] for name, value in vars(self).items()})


def draw(config: AugmentConfig, count: int, margin: int, crop: int, rng: torch.Generator) -> Draws:
    """Parameters for `count` images whose side is `crop + margin` pixels."""

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=rng) * (high - low) + low

    def around(center: float, spread: float) -> Tensor:
        return uniform(center - spread, center + spread)

    offset = torch.randint(0, margin + 1, (count, 2), generator=rng).float()
    flip = torch.where(uniform(0, 1) < config.flip, -1.0, 1.0)
    angle = around(0, math.radians(config.rotation))
    brightness, contrast = around(1, config.brightness), around(1, config.contrast)
    saturation, hue = around(1, config.saturation), around(0, math.radians(config.hue))
    noise, noise_start = uniform(0, config.noise), uniform(0, 1)
    log_ratio = uniform(math.log(_ERASE_RATIO[0]), math.log(_ERASE_RATIO[1]))
    height = (crop * (config.erase_area * log_ratio.exp()).sqrt()).round().clamp(max=crop)
    width = (crop * (config.erase_area / log_ratio.exp()).sqrt()).round().clamp(max=crop)
    left = (uniform(0, 1) * (crop - width + 1)).floor()
    top = (uniform(0, 1) * (crop - height + 1)).floor()
    erased = (uniform(0, 1) < config.erase_probability).float()
    box = torch.stack([left, top, left + width * erased, top + height * erased], 1)
    zoom = around(0, math.log1p(config.zoom)).exp()
    return Draws(offset, flip, angle, brightness, contrast, saturation, hue, noise, noise_start, box, zoom)


def sampling_maps(draws: Draws, crop: int, resize: int) -> Tensor:
    """[B, 2, 3] maps from the crop to where in the source its pixels come from, for `affine_grid`.

    Cut out, rotate and zoom about the middle, then mirror: in pixels p -> z R (p - offset - middle) + middle, where R
    is orthogonal. This is its inverse, in coordinates that go from -1 to 1 between the middles of the outermost pixels.
    """
    middle, source_middle = (crop - 1) / 2, (resize - 1) / 2
    cos, sin = draws.angle.cos(), draws.angle.sin()
    inverse = torch.stack([cos * draws.flip, sin, -sin * draws.flip, cos], 1).view(-1, 2, 2)
    inverse = inverse / draws.zoom[:, None, None]
    shift = (draws.offset + (middle - source_middle)).unsqueeze(2)
    return torch.cat([inverse * middle, shift], 2) / source_middle


def colour_maps(draws: Draws, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix [B, 3, 3] and offset [B, 3, 1] of the jitter for images with channel means `mean` [B, 3].

    Brightness scales, contrast scales about the mean luma, saturation blends with the luma, hue rotates
    the chroma plane. None of them changes a grey's hue, so the offset of the contrast step passes
    through the last two unchanged.
    """
    device = mean.device
    luma = torch.tensor(_LUMA, device=device)
    to_yiq = torch.tensor(_TO_YIQ, device=device)
    brightness, contrast, saturation, hue = (
        value.to(device) for value in (draws.brightness, draws.contrast, draws.saturation, draws.hue)
    )
    cos, sin, one, zero = hue.cos(), hue.sin(), torch.ones_like(hue), torch.zeros_like(hue)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)
    # blending with the luma by `saturation` scales the chroma plane
    turn[:, 1:] *= saturation[:, None, None]
    matrix = torch.linalg.inv(to_yiq) @ turn @ to_yiq * (brightness * contrast)[:, None, None]
    offset = (1 - contrast) * brightness * (mean @ luma)
    return matrix, offset[:, None, None].expand(-1, 3, 1)


class Augmentation:
    """uint8 RGB batches [B, 3, resize, resize] -> float32 normalised [B, 3, crop, crop].

    What happens to an image depends on (seed, epoch, step, position in the global batch) alone: parameters
    are drawn for the global batch, and every rank takes its part. Pixels that rotation brings in from
    outside repeat the border.
    """

    def __init__(self, config: AugmentConfig, preprocessing: Preprocessing, seed: int) -> None:
        self.config = config
        self.preprocessing = preprocessing
        self.seed = seed
        self._noise: Tensor | None = None

    def __call__(self, images: Tensor, epoch: int, step: int, shard: Shard | None = None) -> Tensor:
        """Augments this rank's `images`, which may be on any device."""
        shard = shard or Shard()
        crop, resize = self.preprocessing.crop, self.preprocessing.resize
        total = images.shape[0] * shard.world
        rng = generator(self.seed, Purpose.AUGMENTATION, epoch, step)
        draws = draw(self.config, total, resize - crop, crop, rng).part(shard.slice(total))
        pixels = self._cut_out(images, draws)
        matrix, offset = colour_maps(draws, pixels.mean((2, 3)))
        pixels = torch.baddbmm(offset, matrix, pixels.flatten(2)).view_as(pixels)
        self._add_noise(pixels, draws)
        return self._erase(self._normalise(pixels.clamp_(0.0, 1.0)), draws.box)

    def _cut_out(self, images: Tensor, draws: Draws) -> Tensor:
        """Crop, rotation and flip: float32 [B, 3, crop, crop] on the scale 0..1."""
        crop, resize = self.preprocessing.crop, self.preprocessing.resize
        maps = sampling_maps(draws, crop, resize).to(images.device)
        grid = affine_grid(maps, [len(images), 3, crop, crop], align_corners=True)
        return grid_sample(images.float().mul_(1 / 255.0), grid, padding_mode="border", align_corners=True)

    def _add_noise(self, pixels: Tensor, draws: Draws) -> None:
        """Adds gaussian noise in place: for each image a random stretch of one long pool of normals.

        Drawing fresh normals for every pixel would take longer than everything else here together.
        """
        if self.config.noise == 0:
            return
        size = pixels[0].numel()
        if self._noise is None or self._noise.device != pixels.device:
            rng = generator(self.seed, Purpose.NOISE)
            self._noise = torch.randn(max(_NOISE_POOL, 4 * size), generator=rng).to(pixels.device)
        starts = (draws.noise_start * (self._noise.numel() - size)).long().tolist()
        for image, start, deviation in zip(pixels, starts, draws.noise.tolist(), strict=True):
            image.add_(self._noise[start : start + size].view_as(image), alpha=deviation)

    def _normalise(self, pixels: Tensor) -> Tensor:
        mean = torch.tensor(self.preprocessing.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.preprocessing.std, device=pixels.device).view(3, 1, 1)
        return pixels.sub_(mean).div_(std)

    def _erase(self, pixels: Tensor, box: Tensor) -> Tensor:
        """Sets the rectangles to 0, which is the mean colour after normalisation."""
        left, top, right, bottom = box.to(pixels.device).unbind(1)
        line = torch.arange(pixels.shape[-1], device=pixels.device)
        columns = (line >= left[:, None]) & (line < right[:, None])
        rows = (line >= top[:, None]) & (line < bottom[:, None])
        kept = ~(rows[:, :, None] & columns[:, None, :])
        # a product, which broadcasts over the channels several times as fast as a masked fill does on a CPU
        return pixels.mul_(kept[:, None].to(pixels.dtype))


@dataclass(frozen=True)
class Mixture:
    """How the images of a batch were mixed: each is `share` of itself and 1 - share of the image that `order` names.

    order: int64 [B]; None if nothing was mixed.
    """

    order: Tensor | None = None
    share: float = 1.0

    def of(self, target: Tensor, classes: int) -> Tensor:
        """The targets, int64 [B] or float [B, C], of the mixed images: float [B, C]; unchanged if nothing was mixed."""
        if self.order is None:
            return target
        rows = target if target.is_floating_point() else one_hot(target, classes).float()
        return torch.lerp(rows[self.order], rows, self.share)

    def found(self, probabilities: Tensor, target: Tensor) -> Tensor:
        """How many classes of `target` were found, a scalar: of a mixed image, the share that has the class found."""
        label = target.argmax(1) if target.is_floating_point() else target
        shares = self.of(one_hot(label, probabilities.shape[1]).float(), probabilities.shape[1])
        return shares.gather(1, probabilities.argmax(1, keepdim=True)).sum()


class Mixing:
    """mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899) of neighbours in a batch, whose order is random.

    Like the augmentation it depends on (seed, epoch, step) alone, and on no other rank: a shard of even length holds
    whole pairs. One share is drawn per batch.
    """

    @staticmethod
    def check(config: AugmentConfig, batch_size: int, world: int) -> None:
        """Raises EdgefelError for shards that would separate pairs: results would depend on the number of processes."""
        if (config.mixup or config.cutmix) and world > 1 and batch_size // world % 2:
            raise EdgefelError(
                f"batch_size {batch_size} over {world} processes gives each {counted(batch_size // world, 'image')}, "
                f"but mixup and cutmix take pairs; use a multiple of {2 * world}"
            )

    def __init__(self, config: AugmentConfig, seed: int) -> None:
        self.config, self.seed = config, seed

    def __call__(self, images: Tensor, epoch: int, step: int) -> tuple[Tensor, Mixture]:
        """float [B, 3, S, S] -> mixed images, and how.

        The last image of an odd batch, and everything where both are off, is left as it is.
        """
        config, pairs = self.config, len(images) // 2 * 2
        kinds = [(kind, alpha) for kind in ("mixup", "cutmix") if (alpha := getattr(config, kind))]
        if not kinds or not pairs:
            return images, Mixture()
        rng = np.random.default_rng(derive_seed(self.seed, Purpose.MIXING, epoch, step))
        kind, alpha = kinds[int(rng.integers(len(kinds)))]
        share = float(rng.beta(alpha, alpha))
        order = torch.arange(len(images), device=images.device)
        order[:pairs] = order[:pairs].view(-1, 2).flip(1).flatten()
        if kind == "cutmix":
            images, share = _pasted(images, images[order], share, rng)
        else:
            images = torch.lerp(images[order], images, share)
        return images, Mixture(order, share)


def _pasted(images: Tensor, others: Tensor, share: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    """`images` with one rectangle of `others`, of about 1 - share of the area; and the share that is left."""
    side = images.shape[-1]
    half = 0.5 * side * math.sqrt(1.0 - share)
    left, right, top, bottom = (
        int(np.clip(round(center + sign * half), 0, side))
        for center in rng.uniform(0, side, 2)
        for sign in (-1, 1)
    )
    images = images.clone()
    images[..., top:bottom, left:right] = others[..., top:bottom, left:right]
    return images, 1.0 - (right - left) * (bottom - top) / side**2
