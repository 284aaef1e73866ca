"""Fixtures that more than one test folder uses."""

from __future__ import annotations

import sys
from pathlib import Path

# tests run with --import-mode=importlib, which adds nothing to sys.path; helpers live beside this file
sys.path.insert(0, str(Path(__file__).parent))
