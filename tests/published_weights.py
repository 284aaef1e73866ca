"""Published-layout checkpoints filled by rule: the files that nobody may redistribute, rebuilt for tests."""

from __future__ import annotations

import csv
import zlib
from pathlib import Path

import numpy as np
import torch

VECTORS = Path(__file__).parent / "vectors"


def relative_position_index(tokens: int) -> np.ndarray:
    """As Swin computes it, written independently of the product code: [M, M] int64."""
    window = int(tokens**0.5)
    rows, columns = np.divmod(np.arange(tokens), window)
    dr = rows[:, None] - rows[None, :] + window - 1
    dc = columns[:, None] - columns[None, :] + window - 1
    return dr * (2 * window - 1) + dc


def fill(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of one entry, from its name alone."""
    last = key.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if last in ("relative_position_index", "index_relative"):
        return relative_position_index(shape[0])
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    x = rng.standard_normal(shape, dtype=np.float32)
    if last == "running_var":
        return 1 + 0.1 * np.abs(x)
    if last in ("running_mean", "bias"):
        return 0.05 * x
    if last == "cls_token" or last.endswith("pos_embed"):
        return 0.02 * x
    if last in ("gamma1", "gamma2"):
        return 0.5 + 0.1 * x
    if last in ("relative_position_bias_table", "table"):
        return 0.5 * x
    if x.ndim == 1:
        return 0.5 + 0.1 * x
    return x / np.sqrt(np.prod(shape[1:])).astype(np.float32)


def state_dict(name: str) -> dict[str, dict[str, torch.Tensor]]:
    """{file: {key: tensor}} for `<name>_state_dict.tsv`; a list without file names is one file, ""."""
    files: dict[str, dict[str, torch.Tensor]] = {}
    with (VECTORS / f"{name}_state_dict.tsv").open(newline="") as stream:
        for row in csv.reader(stream, delimiter="\t"):
            *file, key, shape, _ = row
            dims = tuple(int(d) for d in shape.split(",") if d)
            files.setdefault("".join(file), {})[key] = torch.from_numpy(np.asarray(fill(key, dims)))
    return files


def golden(name: str) -> dict[str, np.ndarray]:
    """The float64 results of the published network."""
    with np.load(VECTORS / f"{name}_golden_seed1.npz") as data:
        return dict(data)


def golden_input(batch: int = 2, side: int = 224) -> torch.Tensor:
    """[batch, 3, side, side] float32."""
    rng = np.random.Generator(np.random.PCG64(1))
    return torch.from_numpy(rng.standard_normal((batch, 3, side, side), dtype=np.float32))
