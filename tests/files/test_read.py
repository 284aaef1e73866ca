"""Files that anybody may have written: what lies in their place, encodings, tables."""

from __future__ import annotations

import os

import pytest

from edgefel.errors import EdgefelError
from edgefel.files.read import native_path, open_csv, open_text, read_regular, read_text


def test_pipes_devices_folders_and_endless_files_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, said in (
        (tmp_path / "pipe", "is a named pipe"),
        ("/dev/zero", "is a device"),
        (tmp_path, "is a folder"),
        (tmp_path / "none", "No such file"),
    ):
        with pytest.raises(OSError, match=said):
            read_regular(path)
        with pytest.raises(OSError, match=said):
            open_text(path)
        with pytest.raises(EdgefelError, match="no such file" if said.startswith("No") else said):
            read_text(path)
        with (
            pytest.raises(EdgefelError, match="no such file" if said.startswith("No") else said),
            open_csv(path),
        ):
            pass
    (tmp_path / "long").write_bytes(b"x" * 100)
    assert read_regular(tmp_path / "long", 100) == b"x" * 100
    with pytest.raises(OSError, match="has more than"):
        read_regular(tmp_path / "long", 99)


TABLE = [["a", "ü b"], ["c", "d"]]
ROWS = "path,label\na,ü b\n\nc,d\n"


@pytest.mark.parametrize(
    "data",
    [
        ROWS.encode(),
        ROWS.encode("utf-8-sig"),
        ROWS.encode("utf-16"),
        ROWS.replace("\n", "\r\n").encode(),
        ROWS.replace(",", ";").encode(),
        ROWS.replace(",", "\t").encode("utf-16"),
        b'"path" , label\n"a",\xc3\xbc b\nc,"d"\n',
    ],
)
def test_a_table_is_read_however_a_spreadsheet_wrote_it(data, tmp_path):
    (tmp_path / "t.csv").write_bytes(data)
    with open_csv(tmp_path / "t.csv") as table:
        assert table.columns == ["path", "label"]
        assert list(table) == TABLE


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (ROWS.encode() + b"x" * 140_000 + b",b\n", "line 5: .*field larger than field limit"),
        (ROWS.encode() + b'"open,' + b"x\n" * 70_000, "line .*is a quote not closed"),
        (ROWS.encode() + b"a\0b,c\n", "NUL"),
        (ROWS.encode("latin-1"), "as a UTF-8 CSV file .byte 13 is 0xfc.*save it as UTF-8"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "t.csv: cannot be read"),
    ],
)
def test_a_broken_table_is_one_line_with_its_place(data, said, tmp_path):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(EdgefelError, match=said) as caught, open_csv(tmp_path / "t.csv") as table:
        list(table)
    assert "\n" not in str(caught.value)


def test_text_has_one_kind_of_line_end(tmp_path):
    (tmp_path / "t").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n")
    assert read_text(tmp_path / "t") == "a\nb\nc\n"
    (tmp_path / "t").write_bytes(b"a\xff")
    with pytest.raises(EdgefelError, match=r"cannot be read as UTF-8 text \(byte 1 is 0xff\)"):
        read_text(tmp_path / "t")


def test_a_name_that_is_not_utf8_goes_to_no_library():
    assert native_path("é.mp4") == "é.mp4"
    with pytest.raises(
        EdgefelError, match="its name is not UTF-8, as the libraries that open it need; rename it"
    ):
        native_path(os.fsdecode(b"caf\xe9.mp4"))
