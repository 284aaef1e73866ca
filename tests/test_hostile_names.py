"""Names that mean something to a terminal, a browser, a table or a label file stay names wherever they are written."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from google.protobuf import text_format
from tiny_bundle import write_bundle

from edgefel.cli.main import main
from edgefel.deploy.package import DeployOptions, write_deploy_folder
from edgefel.errors import EdgefelError
from edgefel.runtime.manifest import read_manifest

LABELS = ("<script>alert(1)</script>", 'a,"b', "[red]c", "=1+1", "naïve 😀", "%s{0}\\n", "g h")
ATTRIBUTE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels that are odd and allowed."""
    folder = write_bundle(tmp_path_factory.mktemp("odd") / "bundle")
    document = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(document | {"labels": LABELS}))
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their names are odd too; the tiny network's label is by colour."""
    folder = tmp_path_factory.mktemp("odd images")
    rng = np.random.default_rng(0)
    for number in range(12):
        colour = rng.integers(0, 256, 3)
        cv2.imwrite(str(folder / f"{number}.png"), np.full((20, 20, 3), colour, np.uint8))
    (folder / "0.png").rename(folder / "[red]\x1b[2J\n0.png")
    return folder


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, list(map(str, arguments)), env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result


def test_in_the_terminal(bundle, images):
    crops = "--no-detect", "--min-quality", 0  # nothing can be read in one colour
    result = run("predict", bundle, images, *crops, "--backend", "onnxruntime")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", result.output)
    found = {label for label in LABELS if label in result.stdout}
    expected = {
        json.loads(line)["faces"][0]["label"]
        for line in run("predict", bundle, images, *crops, "--json").stdout.splitlines()
    }
    assert len(expected) > 2
    assert found >= expected
    assert "[red]\\x1b[2J" in result.stdout


def test_in_results_of_a_stream(tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(Path(__file__).parent / "bundles" / "nano-synthetic", folder)
    document = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(document | {"labels": LABELS}))
    clip = tmp_path / "[red]\x1b[2J.mp4"
    run("data", "video", "-o", clip, "--seconds", "2", "--fps", "4", "--faces", "1", "--changes", "0")
    for name in ("out.csv", "out.jsonl"):
        result = run("run", folder, "--source", clip, "--backend", "onnxruntime", "-o", tmp_path / name)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", result.output)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows
    assert [row["label"] for row in rows] == [face["label"] for line in lines for face in line["faces"]]
    assert {row["label"] for row in rows} <= {*LABELS, "unsure"}
    assert all(any(column.endswith(label) for column in rows[0]) for label in LABELS)


def test_in_files_for_devices_and_servers(bundle, tmp_path):
    write_deploy_folder(bundle, tmp_path / "edge", DeployOptions(without_kernels=True))
    assert (tmp_path / "edge/model/labels.txt").read_text(encoding="utf-8").split("\n") == [*LABELS, ""]
    run("pack", bundle, "--triton-repository", tmp_path / "triton")
    service = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs tritonclient")
    for folder in (tmp_path / "triton").iterdir():
        text_format.Parse((folder / "config.pbtxt").read_text(), service.ModelConfig())
        if (folder / "labels.txt").is_file():
            assert (folder / "labels.txt").read_text(encoding="utf-8").split("\n") == [*LABELS, ""]
    run("pack", bundle, "--deepstream", tmp_path / "deepstream")
    assert (tmp_path / "deepstream/labels.txt").read_text(encoding="utf-8") == ";".join(LABELS) + "\n"


@pytest.mark.parametrize("label", ["a\nb", "a\rb", "a\u2028b", "a\x1b[2Jb", "a\x00b", "", " ", "x" * 101])
def test_labels_that_would_break_them_are_refused_where_they_enter(bundle, tmp_path, label):
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    document = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(document | {"labels": [label, *LABELS[1:]]}))
    with pytest.raises(EdgefelError, match=r"manifest\.json: labels: the label "):
        read_manifest(folder)
    result = CliRunner().invoke(main, ["pack", str(folder), "-o", str(tmp_path / "edge.tar")])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.isprintable()
    assert not (tmp_path / "edge.tar").exists()


class Tags(HTMLParser):
    """Elements that a name would bring with it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if any(name.startswith("on") or value == "x" for name, value in attributes):
            self.found.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_in_the_evaluation_page(nano_checkpoint, faces_folder, tmp_path):
    data = tmp_path / ATTRIBUTE
    shutil.copytree(faces_folder, data)
    rows = list(csv.DictReader((data / "labels.csv").open(newline="")))[:42]
    (data / rows[0]["path"]).rename((data / rows[0]["path"]).with_name(f"{ATTRIBUTE}.png"))
    rows[0]["path"] = str(Path(rows[0]["path"]).with_name(f"{ATTRIBUTE}.png"))
    for number, row in enumerate(rows):
        row["<b onclick=alert(1)>"] = f"</td>{ATTRIBUTE}{number % 2}"
    with (data / "labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    where = ("-o", tmp_path / "report", "--by", "<b onclick=alert(1)>", "--split", "all", "--workers", 0)
    run("evaluate", nano_checkpoint, "--data", data, *where)
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    seen = Tags()
    seen.feed(page)
    assert seen.found == []
    assert ATTRIBUTE in "".join(seen.texts)
    assert html.escape(ATTRIBUTE) in page
