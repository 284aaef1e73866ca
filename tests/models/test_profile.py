"""What `edgefel models` says of sizes is what the networks have."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from edgefel.models.profile import known_profile, profile
from edgefel.models.registry import ADDITIONS, MODELS, model_config


@pytest.mark.parametrize("base", MODELS)
def test_the_table_is_what_is_counted(base):
    assert set(ADDITIONS) == {"reliability", "resizer"}
    for more in ("", "+reliability", "+resizer", "+reliability+resizer"):
        assert known_profile(base + more) == profile(model_config(base + more)), base + more
    assert known_profile(f"{base}+resizer+reliability") == known_profile(f"{base}+reliability+resizer")


HEAVY = {
    "torch",
    "cv2",
    "onnx",
    "onnxruntime",
    "openvino",
    "matplotlib",
    "scipy",
    "sklearn",
    "triton",
    "pyarrow",
}


@pytest.mark.parametrize(
    "arguments",
    [
        ["models"],
        ["models", "apvit+reliability", "--json"],
        ["--help"],
        ["--version"],
        *(
            [name, "--help"]
            for name in ("predict", "run", "train", "export", "models", "doctor", "demo", "ablate")
        ),
        *(["bench", name, "--help"] for name in ("compare", "latency", "report", "train")),
        ["data", "synth", "--help"],
        ["data", "prepare", "--help"],
    ],
    ids=" ".join,
)
def test_what_answers_at_once_imports_nothing_heavy(arguments):
    code = (
        "import sys\n"
        "from edgefel.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        f"print(*sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert result.stderr.split() == []
    if "--json" in arguments:
        assert json.loads(result.stdout)[0]["parameters"] == 65_391_630
