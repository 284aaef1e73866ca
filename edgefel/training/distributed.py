"""Training on several processes: their launch, and layers that give the same result on any number of them.

With the global batch split contiguously over the ranks, three kinds of layers would notice the split:
BatchNorm (statistics of its part only), Dropout and DropPath (each rank its own masks). `convert_for_ranks`
replaces them with versions that don't: statistics over all ranks, and masks drawn for the global batch from a
generator that all ranks seed alike, of which each takes its part. Parameters are shared and state-dict keys
stay the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from edgefel.data.loading.batches import ImageSource
from edgefel.errors import EdgefelError
from edgefel.models.encoder import DropPath
from edgefel.training.config import ComputeConfig
from edgefel.workers import end_with

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_LAUNCHER = "EDGEFEL_LAUNCHER"  # environment variable: the process that started this one for a run
# rank variables of torchrun, Fabric, Slurm and MPI
_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")


def create_fabric(config: ComputeConfig) -> Fabric:
    """Lightning Fabric for these settings; raises EdgefelError where they are not available."""
    from lightning_fabric import Fabric
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    devices, nodes = config.devices, config.nodes
    if "LOCAL_WORLD_SIZE" in os.environ and devices == "auto":
        # started by torchrun, which has decided already; on a CPU Fabric's "auto" would mean one process
        devices = os.environ["LOCAL_WORLD_SIZE"]
        nodes = int(os.environ["WORLD_SIZE"]) // int(devices)
    try:
        return Fabric(
            accelerator=config.accelerator,
            devices=devices,
            num_nodes=nodes,
            precision=config.precision,  # type: ignore[arg-type]
            strategy=config.strategy,
        )
    except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
        raise EdgefelError(
            f"accelerator {config.accelerator!r}, devices {config.devices!r}, precision {config.precision!r}"
            f": not available here ({' '.join(str(error).split())}); try --accelerator cpu or other values"
        ) from None


def is_first_process() -> bool:
    """Whether this process is, or will be, rank 0 of its run; known from the environment before the launch."""
    return all(os.environ.get(name, "0") == "0" for name in _RANKS)


@contextmanager
def ending_together() -> Iterator[None]:
    """Around `Fabric.launch`: the processes it starts end with the first one, for which they would wait for long."""
    parent = os.environ.pop(_LAUNCHER, None)
    if parent is not None and os.environ.get("LOCAL_RANK", "0") != "0":
        end_with(int(parent))
    os.environ[_LAUNCHER] = str(os.getpid())
    try:
        yield
    finally:
        # only for these processes, not for those of another launcher that this one may start
        del os.environ[_LAUNCHER]


@dataclass(frozen=True)
class Shard:
    """The contiguous part of every global batch that this process handles."""

    rank: int = 0
    world: int = 1

    def slice(self, global_size: int) -> slice:
        """This rank's part of `global_size` items, a multiple of `world`."""
        size = global_size // self.world
        return slice(self.rank * size, (self.rank + 1) * size)


def _all_reduce(x: Tensor) -> Tensor:
    total = x.detach().clone()
    dist.all_reduce(total)
    return total


class _SumOverRanks(torch.autograd.Function):
    """y = Σ_ranks x. Every rank's loss depends on y, so the gradient of x is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _all_reduce(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _all_reduce(gradients[0])


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


class RankMask(nn.Module):
    """Dropout whose masks belong to the position in the global batch; `per_image`: DropPath. Input [B, ...].

    All ranks must have seeded their global generator alike (see `randomness`).
    """

    def __init__(self, rate: float, shard: Shard, *, per_image: bool = False) -> None:
        super().__init__()
        self.rate, self.shard, self.per_image = rate, shard, per_image

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        size = x.shape[0] * self.shard.world
        rest = (1,) * (x.ndim - 1) if self.per_image else x.shape[1:]
        kept = torch.rand((size, *rest), device=x.device)[self.shard.slice(size)] >= self.rate
        return x * (kept.to(x.dtype) / (1.0 - self.rate))


def convert_for_ranks(model: nn.Module, shard: Shard, *, cuda: bool = False) -> nn.Module:
    """Replaces BatchNorm, Dropout and DropPath in place; returns the model.

    Masks come from the same code on one process as on many, so that both draw the same numbers. BatchNorm
    stays as it is on one process; on CUDA it becomes torch's SyncBatchNorm.
    """
    _swap(model, shard, cross_rank_norm=shard.world > 1 and not cuda)
    if shard.world > 1 and cuda:
        return cast(nn.Module, nn.SyncBatchNorm.convert_sync_batchnorm(model))
    return model


def _swap(module: nn.Module, shard: Shard, cross_rank_norm: bool) -> None:
    for name, child in module.named_children():
        new: nn.Module | None = None
        if isinstance(child, DropPath):
            new = RankMask(child.rate, shard, per_image=True)
        elif isinstance(child, nn.Dropout):
            new = RankMask(child.p, shard)
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
    new._parameters, new._buffers = norm._parameters, norm._buffers
    return new


def _on_one_process() -> bool:
    # PyTorch may be built without distributed training, as for Jetson
    return not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1


def gather_sum(values: Tensor) -> Tensor:
    """Sum over all ranks without gradient; `values` unchanged on one process."""
    return values if _on_one_process() else _all_reduce(values)


def join_skipped(source: ImageSource, device: torch.device) -> None:
    """Adds the images that the other processes could not read to `source.skipped`; a collective call.

    The processes exchange how many there are and then which, not a mark for each image of the data set.
    """
    if _on_one_process():
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
