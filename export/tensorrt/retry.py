"""Building again with less memory when TensorRT runs out of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edgefel.errors import EdgefelError
from edgefel.export.tensorrt.network import because
from edgefel.export.tensorrt.options import MIB, Effort
from edgefel.progress import SILENT, Progress
from edgefel.runtime.engines import Messages

RETRIES = 4
_LEAST_WORKSPACE = 32 * MIB

# What TensorRT 8 to 11 and CUDA say when an allocation fails.
_OUT_OF_MEMORY = re.compile(
    r"out ?of ?memory|cudaErrorMemoryAllocation|could not be allocated|insuff?icient (gpu |device )?memory"
    r"|memory is insufficient|not enough (free )?memory|MEM_ALLOC_FAILED|bad_alloc",
    re.IGNORECASE,
)
_NO_KERNEL_LEFT = re.compile(r"could not find any implementation|no tactics to implement", re.IGNORECASE)
_SMALL_WORKSPACE = re.compile(r"within workspace limit|insufficient workspace", re.IGNORECASE)


@dataclass(frozen=True)
class Attempt:
    """Result of one build. plan: the serialized engine, None when it failed. effort: the limits in force."""

    plan: Any
    effort: Effort
    messages: Messages
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def out_of_memory(self) -> bool:
        """The device's memory ran out, as far as TensorRT's messages tell."""
        if any(_OUT_OF_MEMORY.search(error) for error in self.messages.errors):
            return True
        # where every kernel of a layer was skipped for want of memory, the skipping is only a warning
        skipped = any(_OUT_OF_MEMORY.search(warning) for warning in self.messages.warnings)
        return skipped and any(_NO_KERNEL_LEFT.search(error) for error in self.messages.errors)

    @property
    def workspace_too_small(self) -> bool:
        """A layer has no kernel that gets by with the workspace."""
        return not self.out_of_memory and any(_SMALL_WORKSPACE.search(text) for text in self.messages.errors)


def build_with_less(
    build: Callable[[Effort], Attempt], first: Effort, what: str, progress: Progress = SILENT
) -> tuple[Attempt, list[str]]:
    """Builds, and while memory runs out, again with half the workspace and one builder level less.

    Returns the attempt that gave a plan, and one line for every attempt that did not. At most RETRIES more
    attempts; `what` names the file in messages. Raises EdgefelError saying what to do.
    """
    effort, notes = first, list[str]()
    for retries_left in range(RETRIES, -1, -1):
        attempt = build(effort)
        if attempt.plan is not None:
            return attempt, notes
        if not attempt.out_of_memory:
            break
        smaller = lessen(attempt.effort)
        if retries_left == 0 or smaller == attempt.effort:
            break
        notes.append(f"out of memory with {attempt.effort}; tried again with {smaller}")
        progress.start(f"build {what} again: out of memory, now {smaller}")
        effort = smaller
    raise _failure(attempt, notes, what)


def lessen(effort: Effort) -> Effort:
    """Half the workspace (not below 32 MiB) and one level less (not below 0)."""
    workspace = effort.workspace
    if workspace is not None:
        workspace = min(workspace, max(workspace // 2, _LEAST_WORKSPACE))
    return Effort(workspace, None if effort.level is None else max(effort.level - 1, 0))


def _failure(attempt: Attempt, notes: list[str], what: str) -> EdgefelError:
    said = because(attempt.messages.errors)
    if attempt.out_of_memory or (notes and attempt.workspace_too_small):
        again = f" in {len(notes) + 1} attempts" if notes else ""
        return EdgefelError(
            f"{what}: the GPU's memory does not suffice to build an engine{again}, the last with "
            f"{attempt.effort}; give a smaller --max-batch or another --workspace-mb, or close other "
            f"programs{said}"
        )
    if attempt.workspace_too_small:
        return EdgefelError(
            f"{what}: some layer does not fit the {attempt.effort}; give a larger --workspace-mb or none{said}"
        )
    return EdgefelError(f"{what}: TensorRT cannot build an engine{said or ', and does not say why'}")
