"""Programs that compile kernels: tests run Triton's interpreter, which compiles nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def compiled(_once: Callable[..., Path]) -> Run:
    """Runs a script of this folder and reads the JSON that it prints; the cache is this run's own. more: of its
    environment."""
    cache = _once("triton-cache", Path.mkdir)

    def run(script: str, *arguments: object, **more: str) -> Any:
        environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
        environment |= {"TRITON_CACHE_DIR": str(cache), **more}
        command = [sys.executable, str(HERE / script), *map(str, arguments)]
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=500
        )
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run
