"""Random streams that depend on what they are for, never on what was drawn before.

Every random decision of a training step comes from a generator keyed by (seed, purpose, epoch, step). A
resumed run, and a run on another number of processes, therefore draw the same numbers without storing
any generator's state.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What a stream is for; the values are part of what makes runs repeatable, so they don't change."""

    WEIGHTS = 0
    ORDER = 1
    AUGMENTATION = 2
    NOISE = 3
    LAYERS = 4
    LABELS = 5


def derive_seed(seed: int, purpose: Purpose, *key: int) -> int:
    """A 63-bit seed that is well mixed even for neighbouring keys."""
    sequence = np.random.SeedSequence([seed, int(purpose), *key])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(seed: int, purpose: Purpose, *key: int) -> torch.Generator:
    """A CPU generator for that key; draw on the CPU so that the device does not change the numbers."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *key))
