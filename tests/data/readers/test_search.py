"""Finding files and folders that people have renamed, unpacked twice, or have too many of."""

from __future__ import annotations

import os

import pytest

from edgefel.data.readers import search
from edgefel.errors import EdgefelError


def touch(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_any_mixture_of_case_is_found_and_the_exact_name_goes_before_it(tmp_path):
    touch(tmp_path / "LIST.txt")
    assert search.find(tmp_path, "list.TXT") == tmp_path / "LIST.txt"
    assert search.find_file(tmp_path, "list.TXT", 0) == tmp_path / "LIST.txt"
    exact = touch(tmp_path / "list.TXT")
    assert search.find(tmp_path, "list.TXT") == search.find_file(tmp_path, "list.TXT", 0) == exact


def test_in_a_folder_of_many_entries_the_exact_name_alone_is_found(tmp_path):
    """So that a reader's look at a folder of all images does not list it."""
    touch(tmp_path / "LIST.txt")
    for number in range(255):
        touch(tmp_path / f"{number}.png")
    assert search.descend(tmp_path, "list.txt") == tmp_path / "LIST.txt"
    touch(tmp_path / "255.png")
    assert search.descend(tmp_path, "list.txt") is None
    assert search.descend(tmp_path, "LIST.txt") == tmp_path / "LIST.txt"


def test_an_archive_unpacked_into_a_folder_of_its_name_is_entered(tmp_path):
    inner = touch(tmp_path / "Image/aligned/Aligned/1.jpg").parent
    assert search.descend(tmp_path, "image", "aligned") == inner
    assert search.descend(tmp_path, "image", "original") is None


def test_the_nearest_and_then_the_first_by_name(tmp_path):
    for folder in ("b", "a", "a/deep"):
        touch(tmp_path / folder / "list.txt")
    assert search.find(tmp_path, "list.txt") == tmp_path / "a/list.txt"
    assert search.find_file(tmp_path, "list.txt", 1) == tmp_path / "a/list.txt"
    assert search.find_file(tmp_path, "list.txt", 0) is None
    assert search.find_folders(tmp_path, ("DEEP", "b"), 2) == [tmp_path / "b", tmp_path / "a/deep"]
    assert search.find_folders(tmp_path, ("deep",), 1) == []


def test_hidden_folders_and_those_of_macos_are_left_out(tmp_path):
    for folder in (".git", "__MACOSX"):
        touch(tmp_path / folder / "list.txt")
    assert search.find(tmp_path, "list.txt") is None
    assert list(search.folders_within(tmp_path, 3)) == [tmp_path]


def test_a_folder_of_many_folders_is_not_entered(tmp_path):
    touch(tmp_path / "videos/v000/list.txt")
    for number in range(1, 101):
        (tmp_path / f"videos/v{number:03d}").mkdir()
    assert list(search.folders_within(tmp_path, 2)) == [tmp_path, tmp_path / "videos"]
    assert search.find(tmp_path / "videos", "list.txt") is None
    (tmp_path / "videos/v100").rmdir()
    assert search.find(tmp_path / "videos", "list.txt") == tmp_path / "videos/v000/list.txt"


def test_what_is_not_there_raises_only_where_names_are_asked_for(tmp_path):
    file = touch(tmp_path / "file")
    for path, message in ((file, "is not a folder"), (tmp_path / "missing", "cannot be listed")):
        assert search.find(path, "x") is None
        assert search.find_file(path, "x", 2) is None
        assert search.find_folders(path, ("x",), 2) == []
        with pytest.raises(EdgefelError, match=message):
            search.list_names(path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert search.find(tmp_path, "loop", "x") is None


def test_names_are_sorted_and_those_of_macos_left_out(tmp_path):
    for name in ("b.png", "a.png", "._a.png", ".DS_Store"):
        touch(tmp_path / name)
    assert search.list_names(tmp_path) == ["a.png", "b.png"]


def test_a_lists_lines_keep_their_numbers(tmp_path):
    (tmp_path / "list").write_bytes("\ufeffa\r\n\r\nb\r\n\r\n".encode())
    assert search.read_lines(tmp_path / "list") == ["a", "", "b"]
    assert search.read_lines(touch(tmp_path / "blank", "\n \n")) == []
    (tmp_path / "list").write_bytes(b"\xff")
    with pytest.raises(EdgefelError, match="cannot be read as UTF-8 text"):
        search.read_lines(tmp_path / "list")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_folder_that_is_closed_is_as_good_as_empty(tmp_path):
    closed = touch(tmp_path / "closed/list.txt").parent
    closed.chmod(0)
    try:
        assert search.find(tmp_path, "list.txt") is None
        assert search.find_file(tmp_path, "list.txt", 2) is None
    finally:
        closed.chmod(0o755)


def test_listings_are_sorted_and_leave_hidden_entries_out(tmp_path):
    for name in ("b.PNG", "a.png", "c.txt", ".d.png"):
        (tmp_path / name).touch()
    for name in ("z", "y", ".hidden", "__MACOSX"):
        (tmp_path / name).mkdir()
    assert search.list_names(tmp_path, ".png", ".jpg") == ["a.png", "b.PNG"]
    assert search.list_names(tmp_path) == ["__MACOSX", "a.png", "b.PNG", "c.txt", "y", "z"]
    assert search.list_folders(tmp_path) == [tmp_path / "y", tmp_path / "z"]
    for function in (search.list_names, search.list_folders):
        with pytest.raises(EdgefelError, match=r"nowhere: cannot be listed \(No such file"):
            function(tmp_path / "nowhere")
