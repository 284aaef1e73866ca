"""Files that travel in pieces arrive whole, or not at all."""

from __future__ import annotations

import zipfile

import gpu_carry
import pytest
from gpu_carry import WHOLE, join, pack, packed


@pytest.fixture
def files(tmp_path):
    found = [tmp_path / name for name in ("a.whl", "b.bin", "empty")]
    for file, content in zip(found, (bytes(range(250)), b"x" * 37, b""), strict=True):
        file.write_bytes(content)
    return found


@pytest.mark.parametrize("most", [1000, 287, 286, 100, 1])
def test_files_are_the_same_in_pieces_of_any_size(files, most, tmp_path):
    folder = tmp_path / "carried"
    assert pack(files, folder, most) == -(-287 // most)
    assert max(piece.stat().st_size for piece in folder.glob("*/piece")) <= most
    assert packed(folder) == [file.name for file in files]
    made = join(folder)
    assert [file.name for file in made] == [file.name for file in files]
    assert [file.read_bytes() for file in made] == [file.read_bytes() for file in files]


def test_pieces_that_are_missing_or_damaged_are_refused(files, tmp_path):
    folder = tmp_path / "carried"
    assert packed(folder) == []
    with pytest.raises(ValueError, match="carried: holds no pieces"):
        join(folder)
    pack(files, folder, 100)
    piece = folder / "1" / "piece"
    content = piece.read_bytes()
    piece.write_bytes(content[:-1] + b"?")
    with pytest.raises(ValueError, match=r"a\.whl: its pieces are damaged"):
        join(folder)
    piece.unlink()
    with pytest.raises(ValueError, match="1/piece: missing; carry .*/1 in a call before this one"):
        join(folder)
    piece.write_bytes(content)
    assert len(join(folder)) == 3


def test_a_second_packing_leaves_nothing_of_the_first(files, tmp_path):
    folder = tmp_path / "carried"
    pack(files, folder, 10)
    assert pack(files[1:], folder, 100) == 1
    assert packed(folder) == ["b.bin", "empty"]
    assert [path.name for path in join(folder)] == ["b.bin", "empty"]


@pytest.mark.parametrize("inside", ["fer/", ""])
def test_an_archive_becomes_a_folder_of_its_name(inside, tmp_path):
    with zipfile.ZipFile(tmp_path / "fer.zip", "w") as archive:
        archive.writestr(f"{inside}label.csv", "0,1")
    pack([tmp_path / "fer.zip"], tmp_path / "carried", 50)
    assert join(tmp_path / "carried") == [tmp_path / "carried" / WHOLE / "fer"]
    assert (tmp_path / "carried" / WHOLE / "fer" / "label.csv").read_text() == "0,1"


def test_what_cannot_be_packed_or_joined_is_said_in_one_line(files, tmp_path, capsys):
    folder = str(tmp_path / "carried")
    same = tmp_path / "other" / "a.whl"
    same.parent.mkdir()
    same.write_bytes(b"")
    for arguments, message in (
        (["pack", str(files[0]), str(same)], "two files have the same name"),
        (["pack", str(tmp_path / "none")], "No such file"),
        (["pack", str(files[0]), "--most", "0"], "--most: expected 1 or more"),
        (["join"], "holds no pieces"),
    ):
        assert gpu_carry.main([*arguments, "--into", folder]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error
        assert error.count("\n") == 1
    assert gpu_carry.main(["pack", *map(str, files), "--into", folder]) == 0
    assert capsys.readouterr().out == f"{folder}/0\n"
