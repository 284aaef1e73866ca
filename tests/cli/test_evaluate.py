"""`edgefel evaluate -o`: the report, from a checkpoint to a page in a browser."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import davies_bouldin_score

from edgefel.cli.main import main
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.loading.batches import ImageSource
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Preprocessing, default_preprocessing
from edgefel.evaluation.inference import run_model
from edgefel.models.checkpoint import load_checkpoint, save_checkpoint
from edgefel.models.registry import build_model

FIGURES = ("confusion", "distributions", "reliability", "coverage", "embedding", "groups")
CHROMIUM = os.environ.get("EDGEFEL_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def run(checkpoint: Path, data: Path, *arguments: object):
    words = [checkpoint, "--data", data, *arguments]
    return CliRunner().invoke(main, ["evaluate", *map(str, words)])


@pytest.fixture(scope="module")
def listed(faces_folder, tmp_path_factory) -> Path:
    """The synthetic faces as a manifest with an attribute; one name would break a careless page."""
    manifest = tmp_path_factory.mktemp("listed") / "faces.csv"
    with (faces_folder / "labels.csv").open(newline="") as stream, manifest.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("path", "label", "split", "subject", "glasses", "<b>hat"))
        for number, row in enumerate(csv.DictReader(stream)):
            glasses = ("none", "<i>round")[number % 2]
            path = faces_folder / row["path"]
            writer.writerow((path, row["label"], "test", row["subject"], glasses, "x"))
    return manifest


@pytest.fixture(scope="module")
def done(nano_checkpoint, listed, tmp_path_factory):
    report = tmp_path_factory.mktemp("report") / "out"
    result = run(nano_checkpoint, listed, "--json", "--workers", 0, "-o", report)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), report


class Page(HTMLParser):
    """What a page shows and what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.figures: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href") and value:
                self.loads.append(value)
        if tag == "svg":
            assert dict(attrs)["role"] == "img"
            self.figures.append(dict(attrs)["aria-label"])


def test_the_page_holds_every_figure_and_loads_nothing(done):
    _, report = done
    page = Page((report / "report.html").read_text())
    assert page.figures == [
        *("Confusion matrix", "Images and their distributions", "Reliability diagram"),
        *("Risk and coverage", "Embedding", "Groups"),
    ]
    assert len(page.figures) == len(FIGURES)
    assert all(link.startswith(("data:", "#")) for link in page.loads)
    assert not {"i", "b", "iframe"} & set(page.tags)  # of the attribute's names, which are text
    text = (report / "report.html").read_text()
    assert re.search(r"https?://", text) is None
    for heading in ("Summary", "Recall by class", "Spread of the probabilities", "Davies-Bouldin", "AURC"):
        assert heading in text


def test_figures_are_drawn(done):
    _, report = done
    for name in FIGURES:
        image = cv2.imread(str(report / f"{name}.png"))
        assert min(image.shape[:2]) > 300, name
        assert image.std() > 10, name
        assert (image == 255).all(2).mean() < 0.97, name


def test_the_document_equals_what_the_model_gives(done, nano_checkpoint, listed):
    document, report = done
    assert document == json.loads((report / "evaluation.json").read_text())
    loaded, data = load_checkpoint(nano_checkpoint), open_dataset(listed, "test")
    preprocessing = Preprocessing.from_dict(loaded.preprocessing)
    source = ImageSource(data, preprocessing, cache_mb=0)
    outputs = run_model(loaded.model, source.readable(range(len(data)), 50), preprocessing, 7, features=True)
    targets = data.targets()[outputs.indices]
    assert outputs.embeddings.dtype == np.float32
    found = document["embedding_clustering"]
    assert found["width"] == outputs.embeddings.shape[1]
    expected = davies_bouldin_score(outputs.embeddings, targets)
    assert found["davies_bouldin"] == pytest.approx(expected, rel=1e-3)
    logits = np.exp(outputs.logits - outputs.logits.max(1, keepdims=True))
    assert outputs.primary == pytest.approx(logits / logits.sum(1, keepdims=True), abs=1e-5)
    spread = document["probabilities"]
    assert spread["all_with_head"]["std"] == pytest.approx(outputs.corrected.std(1).mean(), abs=1e-5)
    assert spread["all_without_head"]["highest"] == pytest.approx(outputs.primary.max(1).mean(), abs=1e-5)
    assert spread["drawn_with_head"]["images"] == 60
    glasses = next(one for one in document["attributes"] if one["name"] == "glasses")
    hits = outputs.corrected.argmax(1) == targets
    shares = {score["value"]: score["accuracy"] for score in glasses["scores"]}
    assert shares["none"]["hits"] == hits[::2].sum()
    assert shares["<i>round"]["images"] == len(hits[1::2])


@pytest.fixture(scope="module")
def few(listed, tmp_path_factory) -> Path:
    """Six of the faces: too few for a map."""
    manifest = tmp_path_factory.mktemp("few") / "few.csv"
    manifest.write_text("".join(listed.read_text().splitlines(keepends=True)[:7]))
    return manifest


def test_without_the_head_and_with_few_images_the_page_says_what_is_left_out(few, tmp_path):
    save_checkpoint(
        tmp_path / "p",
        build_model("poster-v2-nano"),
        EXPRESSIONS_7,
        default_preprocessing(112).to_dict(),
    )
    result = run(tmp_path / "p", few, "--workers", 0, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "out/embedding.png").exists()
    text = (tmp_path / "out/report.html").read_text()
    assert "no reliability head" in text
    assert "with head" not in text
    assert "a map needs at least 10 images" in text
    assert json.loads((tmp_path / "out/evaluation.json").read_text())["reliability_with_head"] is None


def test_columns_and_images_that_are_asked_for(nano_checkpoint, few, tmp_path):
    names = [line.split(",")[0] for line in few.read_text().splitlines()[1:]]
    options = ("--by", "<b>hat", "--show", names[2], "--show", Path(names[4]).name, "--workers", 0)
    result = run(nano_checkpoint, few, *options, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert "<b>hat" in document["not_compared"]
    assert "glasses" not in [one["name"] for one in document["attributes"]]
    one_row = cv2.imread(str(tmp_path / "out/distributions.png")).shape
    assert one_row[1] > 2.5 * one_row[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--by", "hat"), "no column 'hat'; choose one of: split, subject, glasses, <b>hat"),
        (("--show", "nobody.png"), "nobody.png: none of the 6 images"),
        (("--show", "a.png", "--grid", "3"), "exclude each other"),
    ],
)
def test_bad_choices_are_one_line_and_nothing_is_written(nano_checkpoint, few, tmp_path, options, message):
    result = run(nano_checkpoint, few, *options, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_choice_of_images_needs_a_report(nano_checkpoint, few):
    result = run(nano_checkpoint, few, "--grid", 3)
    assert result.exit_code == 2
    assert "--grid belongs to --output" in result.stderr


@pytest.mark.slow
def test_a_browser_opens_it_without_a_complaint_and_sorts(done):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium; on Debian: apt-get install chromium")
    complaints: list[str] = []
    requests: list[str] = []
    address = (done[1] / "report.html").as_uri()
    with playwright.sync_playwright() as driver:
        # a container's root has no user namespaces for the sandbox; the page is the test's own
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        sizes = page.eval_on_selector_all(
            "svg",
            "all => all.map(one => [one.clientWidth, one.clientHeight, one.querySelectorAll('text').length])",
        )
        assert len(sizes) == len(FIGURES)
        assert all(min(width, height) > 300 and texts > 10 for width, height, texts in sizes)
        # faces, colour maps and clouds of points
        decoded = page.evaluate(
            """async () => Promise.all([...document.querySelectorAll("svg image")].map(async (one) => {
              const image = new Image();
              image.src = one.getAttribute("href");
              await image.decode();
              return image.naturalWidth;
            }))"""
        )
        assert len(decoded) > 12
        assert min(decoded) > 1
        for width in (400, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        table = page.locator("table.sortable").first
        table.locator("thead button").first.click()
        names = table.locator("tbody td:first-child").all_inner_texts()
        assert names == sorted(EXPRESSIONS_7)
        browser.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [address]


def test_the_layout_is_the_one_that_is_named(nano_checkpoint, listed):
    """The manifest is no RAF-DB; as what it is, it is read."""
    refused = run(nano_checkpoint, listed, "--layout", "raf-db", "--json")
    assert refused.exit_code == 2
    unknown = run(nano_checkpoint, listed, "--layout", "rafdb")
    assert unknown.exit_code == 2
    assert "layout 'rafdb' is not known; choose one of: raf-db" in unknown.output
    read = run(nano_checkpoint, listed, "--layout", "manifest", "--json", "--workers", 0)
    assert read.exit_code == 0, read.output
