"""How sources are divided into parts."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from runtime.bulk.sets import encoded, make_folder, tar_bytes

from edgefel.errors import EdgefelError
from edgefel.runtime.bulk.plan import plan_labelling


def test_a_folder_holds_parts_of_every_kind(tmp_path):
    root = make_folder(tmp_path / "set", 10)
    (root / "shards").mkdir()
    (root / "shards/b.tar").write_bytes(tar_bytes([1]))
    (root / "shards/a.tar").write_bytes(tar_bytes([2]))
    pq.write_table(pa.table({"image": [encoded(n) for n in range(5)]}), root / "p.parquet", row_group_size=2)
    (root / "clip.mp4").write_bytes(b"")
    (root / ".hidden").mkdir()
    (root / ".hidden/x.png").write_bytes(encoded(1))
    plan = plan_labelling(str(root), 4)
    images = [part for part in plan.parts if part.kind == "images"]
    assert [len(part.names) for part in images] == [4, 4, 2]
    assert images[0].names == ("0/000.png", "0/003.png", "0/006.png", "0/009.png")
    others = [(part.kind, part.name, part.groups) for part in plan.parts[3:]]
    assert others == [
        ("video", "clip.mp4", None),
        ("parquet", "p.parquet", (0, 2)),
        ("parquet", "p.parquet", (2, 3)),
        ("tar", "shards/a.tar", None),
        ("tar", "shards/b.tar", None),
    ]
    assert plan.left_out == {".heic": 1}


def test_one_file_is_a_source(tmp_path):
    image, shard = tmp_path / "one.png", tmp_path / "s.tar"
    image.write_bytes(encoded(1))
    shard.write_bytes(tar_bytes([1]))
    (part,) = plan_labelling(str(image)).parts
    assert (part.kind, part.place, part.names) == ("images", str(tmp_path), ("one.png",))
    (part,) = plan_labelling(str(shard)).parts
    assert (part.kind, part.place, part.name) == ("tar", str(shard), "s.tar")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_manifest_needs_paths_alone(tmp_path, suffix):
    make_folder(tmp_path / "set", 6)
    names = ["set/0/000.png", "set/1/001.png", "set/2/002.png"]
    file = tmp_path / f"list{suffix}"
    if suffix == ".csv":
        file.write_text("path,note\n" + "".join(f"{name},x\n" for name in names))
    else:
        pq.write_table(pa.table({"path": names}), file)
    plan = plan_labelling(str(file), 2)
    assert [part.names for part in plan.parts] == [("set/0/000.png", "set/1/001.png"), ("set/2/002.png",)]
    assert {part.place for part in plan.parts} == {str(tmp_path)}


def test_another_set_has_another_digest(tmp_path):
    root = make_folder(tmp_path / "set", 6)
    before = plan_labelling(str(root)).digest
    assert plan_labelling(str(root)).digest == before
    (root / "0/000.png").rename(root / "0/001.png")
    assert plan_labelling(str(root)).digest != before


def test_what_cannot_be_labelled_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(EdgefelError, match="nothing to label in it"):
        plan_labelling(str(tmp_path / "empty"))
    with pytest.raises(EdgefelError, match="no such file or folder"):
        plan_labelling(str(tmp_path / "none"))
    with pytest.raises(EdgefelError, match="0 images per part"):
        plan_labelling(str(tmp_path), 0)
    (tmp_path / "l.csv").write_text("file\nx.png\n")
    with pytest.raises(EdgefelError, match="missing column path"):
        plan_labelling(str(tmp_path / "l.csv"))
    (tmp_path / "l.csv").write_text("path\n")
    with pytest.raises(EdgefelError, match="lists no images"):
        plan_labelling(str(tmp_path / "l.csv"))
