"""What `import edgefel` offers and imports; what labelling imports; what its types say. tests/runtime/test_model.py has
the rest."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from matplotlib import cbook

import edgefel

ROOT = Path(__file__).parent.parent
PORTRAIT = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
# packages that an installation may lack, or that take long to import
HEAVY = (
    "torch",
    "triton",
    "onnx",
    "sklearn",
    "matplotlib",
    "pandas",
    "PIL",
    "rich",
    "click",
    "jinja2",
    "yaml",
)
BASE = ("numpy", "cv2", "onnxruntime", "openvino", "prometheus_client")

IMPORT = """
import json, sys
import edgefel
names = dir(edgefel)
print(json.dumps([edgefel.__version__, sorted(sys.modules)]))
"""
LABEL = """
import json, sys
import edgefel
with edgefel.load(backend="onnxruntime", threads=1) as model:
    faces = model(sys.argv[1])
print(json.dumps([str(faces), faces.to_dicts(), sorted(sys.modules)]))
"""


def run(code: str, *arguments: object) -> list:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_importing_edgefel_imports_no_other_package():
    version, modules = run(IMPORT)
    assert version == edgefel.__version__
    assert not {*HEAVY, *BASE} & {*modules}
    assert [name for name in modules if name.startswith("edgefel")] == ["edgefel"]


def test_labelling_a_photograph_imports_the_base_install_alone():
    text, rows, modules = run(LABEL, PORTRAIT)
    assert not {*HEAVY, "openvino"} & {*modules}
    (row,) = rows
    assert text.startswith(f"{PORTRAIT}: 1 face\n  {row['label']} {row['probability']:.1%}  confidence ")
    assert 100 < row["x"] < 200


def test_everything_that_is_offered_is_there():
    assert {*edgefel.__all__} <= {*dir(edgefel)}
    for name in edgefel.__all__:
        assert getattr(edgefel, name) is not None
    assert issubclass(edgefel.UnreadableImageError, edgefel.EdgefelError)
    assert edgefel.load.__module__ == "edgefel.runtime.model"
    with pytest.raises(AttributeError, match="module 'edgefel' has no attribute 'laod'"):
        edgefel.laod()


def test_every_public_thing_has_a_docstring():
    for thing in (edgefel.load, edgefel.Model, edgefel.Faces):
        assert thing.__doc__
        for name, value in vars(thing).items():
            if not name.startswith("_") and (callable(value) or isinstance(value, property)):
                assert value.__doc__, name


USE = """
from pathlib import Path
from typing import Any
import numpy as np
import edgefel

def label(path: Path, frame: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    with edgefel.load("bundle", threads=2) as model:
        reveal_type(model)
        reveal_type(model("photo.jpg"))
        reveal_type(model(frame, channels="bgr"))
        reveal_type(model([path, frame, b""], channels="rgb", errors="keep"))
        reveal_type(model(path.glob("*.jpg")))
        reveal_type([face.label for face in model(path)])
        for result in model.stream(0, detect_every=3):
            reveal_type(result.faces[0].probabilities)
    model(frame, channels="gbr")
    model(3)
    edgefel.load(backends="onnxruntime")
"""


@pytest.mark.slow
def test_the_types_are_those_that_a_program_sees(tmp_path):
    """Checked as installed: py.typed, and the lazy names as what they stand for."""
    assert resources.files("edgefel").joinpath("py.typed").is_file()
    package = tmp_path / "edgefel"
    package.mkdir()
    for entry in (ROOT / "edgefel").iterdir():
        if entry.name != "__pycache__":
            (package / entry.name).symlink_to(entry)
    (tmp_path / "use.py").write_text(USE)
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--follow-imports=silent", "--strict"]
    command += ["--ignore-missing-imports", "use.py"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    lines = [line.split(": ", 2)[-1] for line in result.stdout.splitlines() if line.startswith("use.py")]
    shown = [line.removeprefix('Revealed type is "').rstrip('"') for line in lines if "Revealed" in line]
    shown = [line.replace("builtins.", "") for line in shown]
    assert shown == [
        "edgefel.runtime.model.Model",
        "edgefel.runtime.results.Faces",
        "edgefel.runtime.results.Faces",
        "list[edgefel.runtime.results.Faces]",
        "list[edgefel.runtime.results.Faces]",
        "list[str]",
        "typing.Mapping[str, float]",
    ], result.stdout
    wrong = [USE.splitlines().index(line) + 1 for line in USE.splitlines()[-3:]]
    found = re.findall(r"^use\.py:(\d+): error", result.stdout, re.MULTILINE)
    assert [int(number) for number in found] == wrong, result.stdout
