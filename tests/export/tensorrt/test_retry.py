"""What happens when TensorRT runs out of memory.

No build can be made to run out of memory at will, so a function takes the build's place here and says what
TensorRT says then, in the words of real logs. That a real build goes through the same code is tested in
test_tensorrt_engine.py, where a real one also fails on a workspace that is too small.
"""

from __future__ import annotations

import pytest

from edgefel.errors import EdgefelError
from edgefel.export.tensorrt.options import MIB, Effort
from edgefel.export.tensorrt.retry import RETRIES, Attempt, build_with_less, lessen
from edgefel.progress import Progress
from edgefel.runtime.engines import Messages

OUT_OF_MEMORY = {
    "allocation": Messages(
        ["[virtualMemoryBuffer.cpp::resizePhysical::145] Error Code 2: OutOfMemory (no further"]
    ),
    "cuda": Messages(["[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)"]),
    "requested": Messages(["Requested amount of GPU memory (4294967296 bytes) could not be allocated."]),
    "every kernel skipped": Messages(
        ["Error Code 10: Internal Error (Could not find any implementation for node {ForeignNode[a...b]}.)"],
        ["Tactic Device request: 538MB Available: 166MB. Device memory is insufficient to use tactic."],
    ),
}
SMALL = Messages(["Could not find any implementation for node x due to insufficient workspace."])
OTHER = Messages(
    ["Error Code 4: Internal Error (input shape does not fit)"], ["Device memory is insufficient"]
)


class Build:
    """Fails with the given messages while the workspace is above `enough`; remembers what it was asked for."""

    def __init__(self, messages: Messages, enough: int = 0) -> None:
        self.messages, self.enough, self.asked = messages, enough, []

    def __call__(self, effort: Effort) -> Attempt:
        self.asked.append(effort)
        workspace = 8192 * MIB if effort.workspace is None else effort.workspace
        in_force = Effort(workspace, 3 if effort.level is None else effort.level)
        if workspace <= self.enough:
            return Attempt(b"plan", in_force, Messages())
        return Attempt(None, in_force, self.messages)


class Steps(Progress):
    def __init__(self) -> None:
        self.steps: list[str] = []

    def start(self, step: str, total: int | None = None) -> None:
        self.steps.append(step)


@pytest.mark.parametrize("case", OUT_OF_MEMORY)
def test_it_builds_again_with_half_the_workspace_and_a_lower_level(case):
    build, progress = Build(OUT_OF_MEMORY[case], 2048 * MIB), Steps()
    attempt, notes = build_with_less(build, Effort(), "model.onnx", progress)
    assert attempt.plan == b"plan"
    assert build.asked == [Effort(), Effort(4096 * MIB, 2), Effort(2048 * MIB, 1)]
    assert notes == [
        "out of memory with workspace 8192 MiB, builder level 3; tried again with workspace 4096 MiB, builder level 2",
        "out of memory with workspace 4096 MiB, builder level 2; tried again with workspace 2048 MiB, builder level 1",
    ]
    assert [step.partition(":")[0] for step in progress.steps] == ["build model.onnx again"] * 2


def test_it_gives_up_after_a_bounded_number_of_attempts_and_says_what_to_do():
    build = Build(OUT_OF_MEMORY["allocation"])
    with pytest.raises(
        EdgefelError, match="memory does not suffice .* in 5 attempts, the last with"
    ) as caught:
        build_with_less(build, Effort(), "model.onnx")
    assert len(build.asked) == RETRIES + 1
    assert [effort.level for effort in build.asked] == [None, 2, 1, 0, 0]
    text = str(caught.value)
    for advice in (
        "smaller --max-batch",
        "--workspace-mb",
        "close other programs",
        "Error Code 2: OutOfMemory",
    ):
        assert advice in text
    assert "\n" not in text


def test_it_stops_where_nothing_is_left_to_lower():
    build = Build(OUT_OF_MEMORY["cuda"])
    with pytest.raises(EdgefelError, match="does not suffice to build an engine, the last"):
        build_with_less(build, Effort(32 * MIB, 0), "model.onnx")
    assert len(build.asked) == 1


@pytest.mark.parametrize(
    ("messages", "said"),
    [(SMALL, "larger --workspace-mb"), (OTHER, "input shape does not fit"), (Messages(), "does not say why")],
)
def test_other_failures_are_not_tried_again(messages, said):
    build = Build(messages)
    with pytest.raises(EdgefelError, match=said):
        build_with_less(build, Effort(512 * MIB, 3), "model.onnx")
    assert len(build.asked) == 1


def test_a_workspace_that_a_retry_made_too_small_is_want_of_memory():
    def build(effort: Effort) -> Attempt:
        again = effort.workspace is not None
        return Attempt(None, Effort(64 * MIB, 1), SMALL if again else OUT_OF_MEMORY["cuda"])

    with pytest.raises(EdgefelError, match="memory does not suffice .* in 2 attempts"):
        build_with_less(build, Effort(), "model.onnx")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Effort(1000 * MIB, 5), Effort(500 * MIB, 4)),
        (Effort(40 * MIB, 0), Effort(32 * MIB, 0)),
        (Effort(8 * MIB, None), Effort(8 * MIB, None)),
        (Effort(None, 1), Effort(None, 0)),
    ],
)
def test_less_is_never_more(before, after):
    assert lessen(before) == after
