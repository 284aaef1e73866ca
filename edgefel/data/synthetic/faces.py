"""Synthetic faces by index: subject, expression and image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefel.data.synthetic.canvas import Canvas, Image, canvas_side
from edgefel.data.synthetic.expressions import UNITS, Expression, draw_expression
from edgefel.data.synthetic.geometry import build_face
from edgefel.data.synthetic.identity import Identity, draw_identity
from edgefel.data.synthetic.options import FaceOptions
from edgefel.data.synthetic.portrait import paint_portrait
from edgefel.data.synthetic.scene import draw_background, draw_scene, spoil, take_image
from edgefel.errors import EdgefelError

# From frequent to rare, as in AffectNet (Mollahosseini et al., 2017, table 3).
_BY_FREQUENCY = ("happiness", "neutral", "sadness", "anger", "surprise", "fear", "disgust", "contempt")
_ATTRIBUTES: dict[str, Callable[[Identity], bool]] = {
    "glasses": lambda person: person.glasses != "none",
    "skin": lambda person: person.tone > 0.5,
    "hair": lambda person: person.light_hair,
}


@dataclass(frozen=True)
class FacePlan:
    """What is known about a face before it is drawn.

    label is true_label unless label noise replaced it. subject: number of the person, which decides the split
    (train, val or test).
    """

    index: int
    label: int
    true_label: int
    subject: int
    split: str
    expression: Expression

    @property
    def soft(self) -> NDArray[np.float64]:
        """The distribution over classes [C]."""
        return self.expression.soft

    @property
    def action_units(self) -> dict[int, float]:
        """Active units and the intensity of their stronger side."""
        return {
            unit: value
            for unit, value in zip(UNITS, self.expression.units.max(1).tolist(), strict=True)
            if value > 0
        }


@dataclass(frozen=True)
class SyntheticFace(FacePlan):
    """A drawn face: `image` [S, S, 3], uint8 RGB, and what it shows."""

    image: Image


class SyntheticFaces:
    """A set of rendered faces.

    An image depends on the options and its index alone, not on the order of the calls, the process or the number
    of images.
    """

    def __init__(self, options: FaceOptions | None = None) -> None:
        self.options = options or FaceOptions()
        self.labels = self.options.labels
        self._splits = _deal_subjects(self.options)
        self._cumulative = np.cumsum(class_shares(self.options))
        shared = np.random.default_rng(np.random.SeedSequence([self.options.seed], spawn_key=(2,)))
        self._offset = float(shared.random())
        self._matching = _biased_subjects(self.options) if self.options.group_bias > 0 else None

    def __len__(self) -> int:
        return self.options.count

    def plan(self, index: int) -> FacePlan:
        """Everything but the image; raises IndexError outside 0..len-1."""
        return self._plan(index)[0]

    def identity(self, subject: int) -> Identity:
        """What does not change between the images of a subject."""
        return draw_identity(self.options.seed, subject)

    def sample(self, index: int) -> SyntheticFace:
        """The face at `index`; raises IndexError outside 0..len-1."""
        plan, rng = self._plan(index)
        options = self.options
        scene = draw_scene(options, rng)
        canvas = Canvas(canvas_side(options.size))
        draw_background(canvas, options, rng)
        face = build_face(self.identity(plan.subject), plan.expression, scene.rest)
        depth = paint_portrait(canvas, face, scene.light)
        image = spoil(take_image(canvas, depth, scene.pose, options.size), options, rng)
        return SyntheticFace(**vars(plan), image=image)

    def _plan(self, index: int) -> tuple[FacePlan, np.random.Generator]:
        if not 0 <= index < self.options.count:
            raise IndexError(f"face {index} of {self.options.count}")
        rng = np.random.default_rng(np.random.SeedSequence([self.options.seed, index]))
        # golden-ratio steps: every run of indices holds the classes in the wanted proportion
        position = (self._offset + (index + 1) * 0.6180339887498949) % 1.0
        true_label = min(int(np.searchsorted(self._cumulative, position, "right")), len(self.labels) - 1)
        label = true_label
        if rng.random() < self.options.label_noise:
            label = int((true_label + rng.integers(1, len(self.labels))) % len(self.labels))
        subject = int(rng.integers(self.options.subjects))
        biased = rng.random() < self.options.group_bias
        pick = rng.random()
        if biased and self._matching is not None:
            fitting = self._matching[true_label % 2]
            subject = int(fitting[int(pick * len(fitting))])
        expression = draw_expression(true_label, self.options, rng)
        return FacePlan(index, label, true_label, subject, self._splits[subject], expression), rng


def class_shares(options: FaceOptions) -> NDArray[np.float64]:
    """Share of each class [C]: equal, or falling exponentially so that head/tail = `long_tail`."""
    labels = options.labels
    order = [name for name in _BY_FREQUENCY if name in labels]
    rank = np.array([order.index(name) for name in labels])
    weights = options.long_tail ** (-rank / (len(labels) - 1))
    return np.asarray(weights / weights.sum())


def _deal_subjects(options: FaceOptions) -> list[str]:
    """Split of each subject: 70 % train, 15 % val, 15 % test, at least one each."""
    count = options.subjects
    held = max(1, round(0.15 * count))
    rng = np.random.default_rng(np.random.SeedSequence([options.seed], spawn_key=(4,)))
    splits = ["train"] * count
    for position, subject in enumerate(rng.permutation(count)[: 2 * held]):
        splits[int(subject)] = "val" if position < held else "test"
    return splits


def _biased_subjects(options: FaceOptions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Subjects without and with the biased attribute: the first fit even classes, the second odd ones."""
    people = [draw_identity(options.seed, subject) for subject in range(options.subjects)]
    has = np.array([_ATTRIBUTES[options.bias_attribute](person) for person in people])
    if has.all() or not has.any():
        raise EdgefelError(
            f"group bias by {options.bias_attribute}: all subjects ({options.subjects}) are alike; "
            "use more subjects"
        )
    return np.flatnonzero(~has), np.flatnonzero(has)
