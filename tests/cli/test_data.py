from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from data.readers.trees_affectnet import write_affectnet

from edgefel.cli.main import main
from edgefel.data.open import open_dataset


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_synth_then_sheet(tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    code, out, _ = run("data", "synth", "-o", folder, "--count", 40, "--size", 48, "--workers", 2, "--json")
    assert code == 0
    summary = json.loads(out)
    assert summary["images"] == 40
    assert summary["output"] == str(folder)
    assert len(open_dataset(folder)) == 40
    code, out, _ = run("data", "sheet", folder, "-o", tmp_path / "sheet.png", "--columns", 3, "--side", 32)
    assert (code, out) == (0, f"{tmp_path / 'sheet.png'}\n")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape[0] == 7 * 36 + 4
    # every cell of a balanced set holds an image, not paper
    assert (np.abs(sheet[20:36, 120:130].astype(int) - 250).mean()) > 10


def test_synth_says_what_it_wrote(tmp_path: Path) -> None:
    code, out, _ = run("data", "synth", "-o", tmp_path / "faces", "--count", 8, "--size", 40, "--workers", 1)
    assert code == 0
    assert "8 faces" in out
    assert "contact_sheet.png" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--count", "0"), "count=0"),
        (("--long-tail", "0.1"), "long_tail=0.1"),
        (("--intensity", "0.9", "0.1"), "must not exceed"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_2(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    code, out, err = run("data", "synth", "-o", tmp_path / "faces", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "faces").exists()


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    code, _, err = run("data", "synth", "-o", tmp_path, "--count", 2)
    assert code == 2
    assert err == f"error: {tmp_path}: the folder is not empty; choose another one or remove it first\n"


def test_a_sheet_of_a_layout_that_is_named(tmp_path: Path) -> None:
    write_affectnet(tmp_path / "set")
    rows = {}
    for layout in ("affectnet", "affectnet-7"):
        image = tmp_path / f"{layout}.png"
        code, _, err = run("data", "sheet", tmp_path / "set", "-o", image, "--layout", layout, "--columns", 1)
        assert (code, err) == (0, "")
        rows[layout] = cv2.imread(str(image)).shape[0]
    # one row of 112 pixels and more for contempt
    assert rows["affectnet"] - rows["affectnet-7"] >= 112


def test_sheet_refusals(tmp_path: Path) -> None:
    code, _, err = run("data", "sheet", tmp_path, "-o", tmp_path / "sheet.png")
    assert code == 2
    assert "no images in class folders" in err
    code, _, err = run("data", "sheet", tmp_path, "-o", tmp_path / "sheet.pdf")
    assert code == 2
    assert "ends in .png or .jpg" in err
    assert list(tmp_path.iterdir()) == []
