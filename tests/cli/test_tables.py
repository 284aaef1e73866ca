"""Tables at every width: labels and numbers stay whole, the names of images give way first."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.markup import escape
from rich.table import Table

from edgefel.cli import tables as tables_module
from edgefel.cli.main import main
from edgefel.cli.tables import TableConsole, fitted, make_table
from edgefel.text import printable

NAME = "recordings-of-the-second-session/camera-left/frame-00001234.jpg"
ROWS = [
    (NAME, "1204,388 560x560", "happiness", "100.0%", "0.97", "happiness 88.2%"),
    ("a.jpg", "4,8 90x90", "disgust", "9.1%", "0.10", "contempt 12.0%"),
]
HEADS = ("image", "face", "label", "prob.", "confidence", "before correction")


def printed(table: Table, width: int) -> list[str]:
    stream = io.StringIO()
    console = TableConsole(file=stream, width=width)
    console.print(table)
    return stream.getvalue().splitlines()


def predictions() -> Table:
    table = Table()
    for name in HEADS:
        table.add_column(name, overflow="fold" if name == "image" else "ellipsis")
    for row in ROWS:
        table.add_row(*map(escape, row))
    return table


def words(lines: list[str]) -> list[str]:
    return re.split(r"[\s│┃]+", " ".join(lines))


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 200])
def test_words_and_numbers_stay_whole(width):
    lines = printed(predictions(), width)
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    found = words(lines)
    for row in ROWS:
        for cell in row[1:]:
            assert set(cell.split()) <= set(found), cell
    for head in HEADS:
        assert set(head.split()) <= {word.rstrip(":") for word in found}
    # nor is anything of the name lost: it is folded
    column = "".join(line.strip("│ ").split(" ")[0] for line in lines)
    assert NAME in column or NAME in "".join(lines).replace("\n", "")


def test_the_name_gives_way_first():
    for width in (90, 120):
        lines = printed(predictions(), width)
        assert lines[0].startswith("┏"), "still a table with lines"
        assert any(
            "1204,388 560x560 │ happiness │ 100.0% │ 0.97       │ happiness 88.2%" in line for line in lines
        )
        assert NAME not in "".join(lines)


def test_narrower_still_it_is_a_table_without_lines_and_then_a_list():
    lines = printed(predictions(), 60)
    assert not any("│" in line for line in lines)
    assert "".join(lines[:2]).split() == ["before", *HEADS[:-1], "correction"]
    lines = [line.rstrip() for line in printed(predictions(), 40)]
    assert lines[-6:] == [
        "image a.jpg",
        "  face: 4,8 90x90",
        "  label: disgust",
        "  prob.: 9.1%",
        "  confidence: 0.10",
        "  before correction: contempt 12.0%",
    ]


def test_a_table_that_fits_is_as_it_was():
    (made,) = fitted(predictions(), TableConsole(file=io.StringIO(), width=200))
    assert isinstance(made, Table)
    table = Table("class", title="12 images")
    table.add_column("images", justify="right")
    table.add_row("[bold]fear[/bold]", "7")
    table.add_row("total", "12", end_section=True)
    assert [line.rstrip() for line in printed(table, 80)] == [
        "    12 images",
        "┏━━━━━━━┳━━━━━━━━┓",
        "┃ class ┃ images ┃",
        "┡━━━━━━━╇━━━━━━━━┩",
        "│ fear  │      7 │",
        "│ total │     12 │",
        "└───────┴────────┘",
    ]


@pytest.mark.parametrize("width", [20, 200])
def test_a_name_cannot_command_the_terminal(width):
    table = Table("image", "label")
    table.add_row(escape("a\x1b[31m\x07[bold]:smile:\r\x9b2J\udcff.jpg"), "fear")
    text = "".join(printed(table, width)).replace("\n", "")
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", text)
    assert printable("\x1b[31m") == "\\x1b[31m"
    if width == 200:
        assert "a\\x1b[31m\\x07[bold]:smile:\\r\\x9b2J\\udcff.jpg" in text


def test_cells_are_text_and_headers_say_how_a_column_is_laid_out():
    table = make_table((">images", "~name"), [("7", "[bold]fear[/bold] :smile:")], "a [red]title")
    assert [column.justify for column in table.columns] == ["right", "left"]
    assert [column.overflow for column in table.columns] == ["ellipsis", "fold"]
    text = "\n".join(printed(table, 80))
    assert "│      7 │ [bold]fear[/bold] :smile: │" in text
    assert "a [red]title" in text


@pytest.fixture(scope="module")
def shown(
    tmp_path_factory: pytest.TempPathFactory, nano_checkpoint: Path, nano_bundle: Path, faces_folder: Path
) -> dict[str, list[Table]]:
    """Every table that commands print, as it comes to the console."""
    place = tmp_path_factory.mktemp("tables")
    brief = ("--quick", "--runs", "2", "--seconds", "0.01", "--threads", "1", "--no-memory")
    rows = (
        "bench",
        "latency",
        nano_bundle,
        *brief,
        "--backend",
        "onnxruntime",
        "--force",
        "-o",
        place / "rows.jsonl",
    )
    commands: list[tuple[object, ...]] = [
        ("models",),
        ("doctor", nano_bundle),
        ("data", "synth", "-o", place / "faces", "--count", "14", "--size", "64", "--subjects", "7"),
        ("data", "video", "-o", place / "clip.mp4", "--seconds", "2", "--fps", "3", "--changes", "0"),
        ("data", "inspect", faces_folder),
        ("predict", nano_bundle, place / "faces", "--no-detect", "--backend", "onnxruntime"),
        ("run", nano_bundle, "--source", place / "clip.mp4", "--backend", "onnxruntime"),
        ("pack", nano_bundle, "-o", place / "edge.tar", "--no-kernels", "--force"),
        ("evaluate", nano_checkpoint, "--data", faces_folder, "--coverage", "--by", "subject"),
        ("calibrate", "--data", faces_folder, "-o", place / "calibration.json", "--per-class", "2"),
        ("parity", nano_bundle, "--data", faces_folder, "--images", "14", "--checkpoint", nano_checkpoint),
        rows,
        (
            "bench",
            "throughput",
            nano_bundle,
            "--quick",
            "--seconds",
            "0.01",
            "--backend",
            "onnxruntime",
            "--force",
        ),
        (
            "bench",
            "compare",
            nano_bundle,
            *brief[:3],
            "--precision",
            "fp32",
            "--backend",
            "onnxruntime",
            "--no-memory",
        ),
        ("bench", "diff", place / "rows.jsonl", place / "rows.jsonl"),
        ("bench", "train", "--model", "arbex-nano", "--batch-sizes", "2", *brief, "--accelerator", "cpu"),
        (
            "bench",
            "data",
            "--data",
            faces_folder,
            "--model",
            "arbex-nano",
            *brief[:5],
            "--workers",
            "1",
            "--stages",
            "read",
        ),
        ("bench", "roofline", nano_bundle),
    ]
    tables: dict[str, list[Table]] = {}
    with pytest.MonkeyPatch.context() as patch:
        for command in commands:
            seen: list[Table] = []
            patch.setattr(tables_module, "fitted", lambda table, console, seen=seen: seen.append(table) or [])
            result = CliRunner().invoke(main, list(map(str, command)))
            assert result.exit_code in (0, 1, 3), (command, result.output)
            tables[" ".join(map(str, command[: 1 + (command[0] in ("bench", "data"))]))] = seen
    return tables


@pytest.mark.slow
@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_command_at_every_width(shown, width):
    without = {"data synth", "data video"}
    assert {name for name, tables in shown.items() if not tables} == without
    console = TableConsole(file=io.StringIO(), width=width)
    for name, tables in shown.items():
        for table in tables:
            lines = printed(table, width)
            assert max(map(len, lines)) <= width, name
            found = set(words(lines))
            for column in table.columns:
                if column.overflow == "fold":
                    continue
                for cell in column.cells:
                    whole = (
                        console.render_str(cell).plain.split()
                        if isinstance(cell, str)
                        else cell.plain.split()
                    )
                    assert {word for word in whole if len(word) < width} <= found, (
                        name,
                        column.header,
                        lines,
                    )


def test_no_table_is_printed_otherwise():
    """All come to a console that fits them."""
    for file in Path(tables_module.__file__).parent.rglob("*.py"):
        text = file.read_text()
        if "Table(" in text and file.name != "tables.py":
            assert "table_console()" in text or "TableConsole(" in text or "-> Table" in text, file
