"""Images for training at the size of Aff-Wild2: stand-ins, pieces, the cache, and what processes tell each other."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edgefel.data.dataset import ImageDataset, SampleTable
from edgefel.data.loading.batches import ImageSource, StandIns
from edgefel.data.preprocessing import Preprocessing
from edgefel.errors import EdgefelError

SIZE = Preprocessing(resize=16, crop=14)
MILLIONS = 2_600_000


class Memory:
    """Image n is all of the grey n % 251; every one whose number is in `bad` is unreadable."""

    def __init__(self, bad: range | set[int]) -> None:
        self.bad = bad

    def path(self, index: int) -> Path:
        return Path("set") / f"{index}.png"

    def read(self, index: int) -> bytes:
        if index in self.bad:
            raise OSError("broken")
        return cv2.imencode(".png", np.full((16, 16, 3), index % 251, np.uint8))[1].tobytes()


def dataset(count: int, bad: range | set[int] = range(0), classes: int = 3) -> ImageDataset:
    labels = np.arange(count) % classes
    table = SampleTable(Memory(bad), labels, np.zeros(count), ("one",), "train")
    return ImageDataset(Path("set"), tuple("abc"[:classes]), table)


def greys(pixels: torch.Tensor) -> list[int]:
    return pixels[:, 0, 0, 0].tolist()


def test_stand_ins_are_the_others_of_the_class_in_order_going_round() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 3, 50)
    table = SampleTable(Memory(set()), labels, np.zeros(50), ("one",), "train")
    for samples in (table, tuple(table)):
        found = StandIns(ImageDataset(Path("set"), ("a", "b", "c"), samples))
        for index, label in enumerate(labels):
            after = [i for i in range(index + 1, 50) if labels[i] == label]
            before = [i for i in range(index) if labels[i] == label]
            assert list(found.of(index)) == after + before


def test_threads_that_ask_at_once_get_the_same() -> None:
    found = StandIns(dataset(300))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda index: list(islice(found.of(index), 3)), range(3, 240, 3)))
    assert answers == [[index + 3, index + 6, index + 9] for index in range(3, 240, 3)]


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_replaced_within_their_class(workers: int, cached: bool) -> None:
    source = ImageSource(dataset(60, {5, 8, 57}), SIZE, workers=workers, cache_mb=4096 if cached else 0)
    source.load()
    lists = [np.array([0, 5, 57, 3]), np.arange(40, 60)]
    first, second = source.batches(lists)
    assert first.indices.tolist() == greys(first.pixels) == [0, 11, 0, 3]
    assert second.indices.tolist() == greys(second.pixels) == [*range(40, 57), 0, 58, 59]
    assert set(source.skipped) == ({5, 8, 57})
    readable = list(source.readable(range(3, 10), 4))
    assert [index for batch in readable for index in batch.indices.tolist()] == [3, 4, 6, 7, 9]


@pytest.mark.parametrize("cached", [True, False])
def test_a_class_without_a_readable_image_is_named(cached: bool) -> None:
    source = ImageSource(dataset(30, set(range(1, 30, 3))), SIZE, cache_mb=4096 if cached else 0)
    source.load()
    with pytest.raises(EdgefelError, match="no image of the class 'b' can be read"):
        list(source.batches([np.array([4, 0])]))


def test_pieces_are_made_as_they_are_read() -> None:
    """A validation split of millions must not become a list of millions of numbers before the first is read."""

    class Counted:
        read = 0

        def __len__(self) -> int:
            return MILLIONS

        def __getitem__(self, where: slice) -> Iterator[int]:
            Counted.read += 1
            return iter(range(MILLIONS)[where])

    source = ImageSource(dataset(MILLIONS), SIZE, workers=2, cache_mb=0)
    batches = source.readable(Counted(), 16)  # type: ignore[arg-type]
    assert next(batches).indices.tolist() == list(range(16))
    batches.close()  # type: ignore[attr-defined]
    assert Counted.read < 100


def test_an_unreadable_image_among_millions_costs_a_look_up() -> None:
    """Once the classes are sorted out, a stand-in takes less time than going once through the labels of all."""
    data = dataset(MILLIONS)
    stand_ins = StandIns(data)
    next(stand_ins.of(0))
    start = time.perf_counter()
    for index in range(0, MILLIONS, MILLIONS // 100):
        next(stand_ins.of(index))
    looked_up = time.perf_counter() - start
    start = time.perf_counter()
    targets = data.targets()
    np.flatnonzero(targets == targets[7])
    assert looked_up < 100 * (time.perf_counter() - start) / 5


_TELL = """
import sys
import torch
import torch.distributed as dist
from edgefel.data.preprocessing import Preprocessing
from edgefel.data.loading.batches import ImageSource
from edgefel.data.open import open_dataset
rank = int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=2)
source = ImageSource(open_dataset(sys.argv[1]), Preprocessing(resize=16, crop=14), cache_mb=0)
source.join_skipped(torch.device("cpu"))  # nobody has anything to tell
assert source.skipped == {}
source.skipped.update({0: {7: "mine", 50: "mine", 51: "mine"}, 1: {99: "mine", 7: "mine"}}[rank])
source.join_skipped(torch.device("cpu"))
source.join_skipped(torch.device("cpu"))
print(*(f"{index}={reason}" for index, reason in sorted(source.skipped.items())), sep=chr(10))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_tell_each_other_what_they_could_not_read(faces_folder: Path, tmp_path: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _TELL, str(faces_folder), str(rank), str(tmp_path / "meeting")],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [child.communicate(timeout=120)[0].splitlines() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    first, second = (dict(line.split("=", 1) for line in lines) for lines in told)
    assert list(first) == list(second) == ["7", "50", "51", "99"]
    assert first["7"] == second["7"] == first["51"] == "mine"
    assert first["99"].endswith(".png: another process could not read it")
    assert second["50"].endswith(".png: another process could not read it")


def test_a_single_process_has_nobody_to_tell() -> None:
    source = ImageSource(dataset(5), SIZE, cache_mb=0)
    source.skipped[3] = "mine"
    source.join_skipped(torch.device("cpu"))
    assert source.skipped == {3: "mine"}
