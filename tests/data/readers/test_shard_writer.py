from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.readers.trees_webdataset import image

from edgefel.data.dataset import ImageDataset, Sample
from edgefel.data.images import UnreadableImageError
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.readers.shard_writer import write_shards
from edgefel.data.readers.webdataset import WebDataset
from edgefel.errors import EdgefelError

pytestmark = pytest.mark.usefixtures("cache")


def test_written_shards_say_the_same(tmp_path: Path) -> None:
    soft = tuple(1 / 7 for _ in EXPRESSIONS_7)
    samples = []
    for number in range(9):
        path = tmp_path / f"{number}.{('png', 'jpg', 'bmp')[number % 3]}"
        path.write_bytes(image(20 * number, path.suffix[1:]))
        split = ("train", "val", "")[number % 3]
        samples.append(Sample(path, number % 7, f"g{number // 2}", split, soft, (0, 0, 5, 4)))
    source = ImageDataset(tmp_path, EXPRESSIONS_7, tuple(samples))
    shards = write_shards(source, tmp_path / "train", per_shard=2)  # unsplit samples stay so in any folder
    assert [shard.name for shard in shards] == [
        f"{split}-{number:06d}.tar" for split in ("train", "val", "shard") for number in (0, 1)
    ]
    read = WebDataset().read(tmp_path / "train")
    wanted = [source.samples[i] for split in ("", "train", "val") for i in source.in_split(split)]
    for sample, other in zip(read.samples, wanted, strict=True):
        assert (sample.label, sample.group, sample.split, sample.box) == (
            other.label,
            other.group,
            other.split,
            other.box,
        )
        assert sample.soft == pytest.approx(soft)
        np.testing.assert_array_equal(sample.load(), other.load())
        if other.path.suffix != ".bmp":
            assert sample.read() == other.read()
    again = write_shards(source, tmp_path / "again", per_shard=2)
    assert [a.read_bytes() for a in again] == [b.read_bytes() for b in shards]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(image(0))
    good = Sample(tmp_path / "a.png", 0, "g", "train")
    out = tmp_path / "out"

    def write(*samples: Sample, labels: tuple[str, ...] = EXPRESSIONS_7, per_shard: int = 5) -> None:
        write_shards(ImageDataset(tmp_path, labels, samples), out, per_shard=per_shard)

    with pytest.raises(EdgefelError, match="0 images per shard: give 1 or more"):
        write(good, per_shard=0)
    with pytest.raises(EdgefelError, match="labels fear are not the canonical 7 or 8"):
        write(good, labels=("fear",))
    with pytest.raises(EdgefelError, match="no images to write"):
        write()
    with pytest.raises(EdgefelError, match=r"a\.png: has no label"):
        write(Sample(tmp_path / "a.png", -1, "g", "train"))
    with pytest.raises(EdgefelError, match="boxes are mixed; write them apart"):
        write(good, Sample(tmp_path / "a.png", 0, "g", "train", None, (0, 0, 2, 2)))
    with pytest.raises(UnreadableImageError, match=r"gone\.png"):
        write(good, Sample(tmp_path / "gone.png", 0, "g", "train"))
    assert not out.exists()
    write(good)
    with pytest.raises(EdgefelError, match="the folder is not empty"):
        write(good)
