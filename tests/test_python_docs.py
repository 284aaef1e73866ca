"""The code of docs/python.md runs as written, on the network that comes with edgefel."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import pytest
from matplotlib import cbook

import edgefel
from edgefel.data.synthetic.options import VideoOptions
from edgefel.data.synthetic.video import write_video
from edgefel.runtime.shipped import FOLDER

PAGE = (Path(__file__).parent.parent / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """What the page's code names."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(FOLDER, "bundle")
    shutil.copy(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False), "photo.jpg")
    Path("broken.jpg").write_bytes(Path("photo.jpg").read_bytes()[:500])
    Path("photos").mkdir()
    for number in range(3):
        cv2.imwrite(f"photos/{number}.jpg", cv2.resize(cv2.imread("photo.jpg"), (256, 300)))
    write_video(Path("clip.mp4"), VideoOptions(seconds=2, fps=10, faces=2, changes=0))


def digits_left_out(text: str) -> str:
    """Backends round differently."""
    return re.sub(r"\d", "#", text.strip())


def test_the_code_runs_as_written(files, capsys):
    names: dict[str, object] = {}
    printed = []
    for language, code in BLOCKS:
        if language:
            exec(compile(code, "docs/python.md", "exec"), names)
            printed.append(capsys.readouterr().out)
        else:  # what the block before it prints
            assert digits_left_out(printed[-1]) == digits_left_out(code)
    loaded, results, kept, table, streamed = printed[1], printed[4], printed[5], printed[6], printed[7]
    assert "onnxruntime" in loaded
    assert [line.split()[0] for line in results.splitlines()] == [
        f"photos/{number}.jpg" for number in range(3)
    ]
    assert re.fullmatch(r"1 broken\.jpg: .*\n", kept)
    assert re.fullmatch(r"1 photo\.jpg \w+ 0\.\d+\n", table)
    assert {"person 1", "person 2"} <= set(re.findall(r"person \d", streamed))


def test_every_option_and_attribute_is_on_the_page():
    """Each as code; those of a call in the text, those of `load` and of a face in the tables."""
    import inspect

    from edgefel.runtime.results import LabelledFace

    code = " ".join(re.findall(r"`([^`\n]+)`", PAGE))
    names = {*inspect.signature(edgefel.load).parameters, *inspect.signature(edgefel.Model.stream).parameters}
    names |= {name for name, value in vars(LabelledFace).items() if isinstance(value, property)}
    names |= {*LabelledFace.__dataclass_fields__}
    inner = {"self", "telemetry", "size", "sure"}  # `size` of a face; that of a camera is named beside `fps`
    missing = [name for name in sorted(names - inner) if not re.search(rf"\b{name}\b", code)]
    assert missing == []
