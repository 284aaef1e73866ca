"""Layers that give the same result on any number of processes.

With the global batch split contiguously over the ranks, three kinds of layers would notice the split:
BatchNorm (statistics of its part only), Dropout and DropPath (each rank its own masks). `convert_for_ranks`
swaps them for versions that don't: statistics over all ranks, and masks drawn for the global batch from a
generator that all ranks seed alike, of which each takes its part. Parameters are shared and state-dict keys
stay the same.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from edgefel.data.loading.batches import ImageSource
from edgefel.models.window_attention import DropPath
from edgefel.training.augmentation import Shard


class _SumOverRanks(torch.autograd.Function):
    """y = Σ_ranks x. Every rank's loss depends on y, so the gradient of x is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def sum_over_ranks(x: Tensor) -> Tensor:
    """Differentiable sum of same-shaped tensors over all processes."""
    return cast(Tensor, _SumOverRanks.apply(x))


class CrossRankBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm over the batches of all ranks, which must be equally large. Input [B, C] or [B, C, ...].

    torch's SyncBatchNorm refuses CPU tensors; this one needs nothing but an all-reduce. Statistics are
    taken in two passes (mean, then squared deviations), in at least float32.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least [B, C], got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        axes = [axis for axis in range(input.dim()) if axis != 1]
        shape = [1, -1] + [1] * (input.dim() - 2)
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        count = x.numel() // x.shape[1] * dist.get_world_size()
        mean = sum_over_ranks(x.sum(axes)) / count
        centred = x - mean.view(shape)
        variance = sum_over_ranks(centred.square().sum(axes)) / count
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            unbiased = variance * (count / max(count - 1, 1))
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        out = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(input.dtype)


def global_rand(x: Tensor, shape: tuple[int, ...], shard: Shard) -> Tensor:
    """This rank's part of uniform numbers in [0, 1) drawn for the global batch; `shape` is the local one.

    All ranks must have seeded their global generator alike (see `randomness`).
    """
    size = shape[0] * shard.world
    numbers = torch.rand((size, *shape[1:]), device=x.device)
    return numbers[shard.slice(size)]


class RankDropout(nn.Dropout):
    """Dropout whose masks belong to the position in the global batch."""

    def __init__(self, p: float, shard: Shard) -> None:
        super().__init__(p)
        self.shard = shard

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return input
        kept = global_rand(input, tuple(input.shape), self.shard) >= self.p
        return input * (kept.to(input.dtype) / (1.0 - self.p))


class RankDropPath(DropPath):
    """DropPath whose masks belong to the position in the global batch."""

    def __init__(self, rate: float, shard: Shard) -> None:
        super().__init__(rate)
        self.shard = shard

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        kept = global_rand(x, shape, self.shard) >= self.rate
        return x * (kept.to(x.dtype) / (1.0 - self.rate))


def convert_for_ranks(model: nn.Module, shard: Shard, *, cuda: bool = False) -> nn.Module:
    """Swaps BatchNorm, Dropout and DropPath in place; returns the model.

    Masks come from the same code on one process as on many, so that both draw the same numbers. BatchNorm
    is left alone on one process; on CUDA it becomes torch's SyncBatchNorm.
    """
    _swap(model, shard, cross_rank_norm=shard.world > 1 and not cuda)
    if shard.world > 1 and cuda:
        return cast(nn.Module, nn.SyncBatchNorm.convert_sync_batchnorm(model))
    return model


def _swap(module: nn.Module, shard: Shard, cross_rank_norm: bool) -> None:
    for name, child in module.named_children():
        new: nn.Module | None = None
        if isinstance(child, DropPath):
            new = RankDropPath(child.rate, shard)
        elif isinstance(child, nn.Dropout):
            new = RankDropout(child.p, shard)
        elif isinstance(child, (nn.modules.dropout._DropoutNd, nn.MultiheadAttention)):
            # they would draw masks per rank, and runs would depend on the number of processes
            raise TypeError(f"{name}: no rank-aware version of {type(child).__name__}")
        elif cross_rank_norm and isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
            new = _cross_rank_norm(child)
        if new is None:
            _swap(child, shard, cross_rank_norm)
        else:
            new.train(child.training)
            setattr(module, name, new)


def _cross_rank_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> CrossRankBatchNorm:
    new = CrossRankBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    # sharing the very tensors keeps parameter groups, devices and dtypes as they are
    for name, parameter in norm.named_parameters(recurse=False):
        setattr(new, name, parameter)
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(new, name, buffer)
    return new


def gather_sum(values: Tensor) -> Tensor:
    """Sum over all ranks without gradient; `values` unchanged on one process."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def join_skipped(source: ImageSource, device: torch.device) -> None:
    """Adds the images that the other processes could not read to `source.skipped`; a collective call.

    The processes exchange how many there are and then which, not a mark for each image of the data set.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    rank, mine = dist.get_rank(), sorted(source.skipped)
    counts = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=device)
    counts[rank] = len(mine)
    counts = gather_sum(counts)
    found = torch.zeros(int(counts.sum()), dtype=torch.int64, device=device)
    start = int(counts[:rank].sum())
    found[start : start + len(mine)] = torch.tensor(mine, dtype=torch.int64, device=device)
    for index in gather_sum(found).unique().tolist():
        path = source.dataset.samples[index].path
        source.skipped.setdefault(index, f"{path}: another process could not read it")
