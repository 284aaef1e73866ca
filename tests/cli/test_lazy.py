"""Commands and optional packages are imported only when they are used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from edgefel.cli.lazy import require
from edgefel.cli.main import main
from edgefel.errors import MissingDependencyError

HEAVY = (
    *("torch", "cv2", "onnx", "onnxruntime", "openvino", "matplotlib", "scipy", "sklearn", "triton"),
    "pyarrow",
)
AT_ONCE = [
    ["--version"],
    ["--help"],
    ["models"],
    ["models", "apvit+reliability", "--json"],
    *(
        [name, "--help"]
        for name in ("predict", "run", "train", "export", "models", "doctor", "demo", "ablate")
    ),
    *(["bench", name, "--help"] for name in ("compare", "latency", "report", "train")),
    ["data", "synth", "--help"],
    ["data", "prepare", "--help"],
]
# one process for all: what one of them imports is seen after it
RUN = """
import json, sys
from edgefel.cli.main import main
heavy, commands = map(json.loads, sys.argv[1:])
for command in commands:
    try:
        main(command)
    except SystemExit as end:
        assert not end.code, command
    found = sorted({*heavy} & {*sys.modules})
    assert not found, (command, found)
"""


def test_what_answers_at_once_imports_nothing_heavy():
    command = [sys.executable, "-c", RUN, json.dumps(HEAVY), json.dumps(AT_ONCE)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert '"parameters": 65391630' in result.stdout


def test_a_command_is_imported_when_it_is_asked_for(monkeypatch):
    monkeypatch.delitem(sys.modules, "edgefel.cli.import_", raising=False)
    assert "import" in main.list_commands(None)
    assert "edgefel.cli.import_" not in sys.modules
    assert main.get_command(None, "import").name == "import"
    assert "edgefel.cli.import_" in sys.modules
    assert main.get_command(None, "imports") is None


def test_a_missing_package_is_named_with_what_brings_it():
    require("train", "edgefel train", "json", "click")
    with pytest.raises(MissingDependencyError) as caught:
        require("train", "edgefel train", "json", "no_such_package", "nor_this")
    assert str(caught.value) == (
        "edgefel train needs the package 'no_such_package', which is not installed; run: pip install 'edgefel[train]'"
    )
