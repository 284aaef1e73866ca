"""`edgefel label`: what it says, exit codes, and interruptions. tests/runtime/bulk tests what it writes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from heeding import heed
from runtime.bulk.sets import make_folder, tar_bytes, tree

from edgefel.cli.main import main
from edgefel.files.resumable import partial_folder

CROPS = ("--no-detect", "--backend", "onnxruntime")


def run(*arguments):
    return CliRunner().invoke(main, ["label", *map(str, arguments)])


def test_a_folder_is_labelled_into_parquet(tiny, tmp_path):
    images = make_folder(tmp_path / "images", 9)
    (images / "s.tar").write_bytes(tar_bytes(range(4))[:4000])
    result = run(tiny, images, "-o", tmp_path / "out", "--part", 5, *CROPS)
    assert result.exit_code == 0, result.output
    said = result.stdout
    assert f"{tmp_path / 'out'}: " in said
    assert "1 image cannot be read: see the column error" in said
    assert "1 damaged shard, read up to the damage: s.tar (" in said
    assert "left out 1 .heic" in said
    files = sorted((tmp_path / "out").glob("*.parquet"))
    assert len(files) == 3
    assert sum(pq.read_metadata(file).num_rows for file in files) >= 9


def test_json_and_the_shipped_network(shipped, tmp_path):
    images = make_folder(tmp_path / "images", 6)
    result = run(images, "-o", tmp_path / "out", "--json", "--workers", 1, *CROPS)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["images"], said["faces"], said["unreadable"], said["tasks_repeated"]) == (6, 5, 1, 0)
    assert said["network"]["bundle"] == shipped.name


def test_mirror_is_said_and_reaches_the_workers(shipped, tmp_path):
    images = make_folder(tmp_path / "images", 3)
    confidences = []
    for name, options in {"plain": (), "both": ("--mirror",)}.items():
        result = run(images, "-o", tmp_path / name, "--workers", 1, *options, *CROPS)
        assert result.exit_code == 0, result.output
        assert ("each image and its mirror image, averaged" in result.stderr) == bool(options)
        (table,) = (tmp_path / name).glob("*.parquet")
        confidences.append(pq.read_table(table)["confidence"].to_pylist())
    assert confidences[0] != confidences[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", "-o", "{}/out"], "no such file or folder"),
        (["{}/images", "-o", "{}/images"], "the folder is not empty"),
        (
            ["{}/images", "-o", "{}/out", "--cluster", "127.0.0.1:1"],
            "no Ray cluster can be reached at 127.0.0.1:1",
        ),
        (["nope://x/y", "-o", "{}/out"], "nope"),
    ],
)
def test_bad_input_is_one_line(tiny, tmp_path, arguments, message):
    pytest.importorskip("ray", reason="no Ray here; pip install 'edgefel[cluster]'")
    make_folder(tmp_path / "images", 6)
    result = run(tiny, *(argument.format(tmp_path) for argument in arguments), *CROPS)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_a_kill_and_ctrl_c_lose_nothing(tiny, tmp_path):
    images = make_folder(tmp_path / "images", 400)
    arguments = ["label", tiny, images, "--part", "2", "--workers", "1", *CROPS]
    once = CliRunner().invoke(main, [*map(str, arguments), "-o", str(tmp_path / "once")])
    assert once.exit_code == 0, once.output
    out = tmp_path / "out"
    journal = partial_folder(out) / "journal"
    code = "from edgefel.cli.main import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments), "-o", str(out)]
    for number, after in ((signal.SIGKILL, 5), (signal.SIGINT, 10)):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
        end = time.monotonic() + 60
        while (
            not (journal.is_file() and journal.read_bytes().count(b"\n") > after) and time.monotonic() < end
        ):
            time.sleep(0.001)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert not out.exists()
        assert process.returncode == (130 if number is signal.SIGINT else -signal.SIGKILL), errors
    assert f"finished parts are kept in {partial_folder(out)}; the same command continues" in errors
    last = CliRunner().invoke(main, [*map(str, arguments), "-o", str(out)])
    assert "continuing: " in last.stderr
    assert tree(out) == tree(tmp_path / "once")
