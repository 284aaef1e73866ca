"""Random streams keyed by their purpose, independent of what was drawn before.

Every random decision of a training step comes from a generator keyed by (seed, purpose, epoch, step). A
resumed run, and a run on another number of processes, therefore draw the same numbers without storing
any generator's state.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, cast

import numpy as np
import torch
from torch.utils import deterministic


class Purpose(IntEnum):
    """What a stream is for. Runs are repeatable only as long as these values stay the same."""

    WEIGHTS = 0
    ORDER = 1
    AUGMENTATION = 2
    NOISE = 3
    LAYERS = 4
    LABELS = 5
    MIXING = 6


def derive_seed(seed: int, purpose: Purpose, *key: int) -> int:
    """A 63-bit seed that is well mixed even for neighbouring keys."""
    sequence = np.random.SeedSequence([seed, int(purpose), *key])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(seed: int, purpose: Purpose, *key: int) -> torch.Generator:
    """A CPU generator for that key; draw on the CPU so that the device does not change the numbers."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *key))


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """While active, on a CPU, the same step with the same number of threads gives the same bits.

    By default several threads add the gradients of an indexed lookup, such as the relative position bias, in varying
    order; the deterministic form has one order (and is no slower). An operation without such a form raises
    RuntimeError. On CUDA nothing changes, since it would cost speed.
    """
    if device.type != "cpu":
        yield
        return
    options = cast(Any, deterministic)  # its stubs lack the option
    before = torch.are_deterministic_algorithms_enabled(), options.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    # filling fresh memory finds reads of values never written; it does not change sums
    options.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        options.fill_uninitialized_memory = before[1]
