"""The tests of a source file are found by its name.

`edgefel/a/b.py` is tested in `tests/a/test_b.py` or `tests/a/test_b_<aspect>.py`; a package tested as one thing in
`test_a.py` or `test_a_<aspect>.py`, in its own folder of tests, or `test_a.py` in the one above.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = ("edgefel", "kernels", "calib", "export", "bench", "tools")


def untested(sources: Iterable[Path], tests: Iterable[Path]) -> list[str]:
    """Sources, relative to the repository, without a test file of their name or their package's."""
    stems: dict[Path, list[str]] = {}
    for test in tests:
        stems.setdefault(test.parent, []).append(test.stem)

    def tested(folder: Path, name: str) -> bool:
        return any(f"{stem}_".startswith(f"test_{name}_") for stem in stems.get(folder, []))

    missing = []
    for source in sources:
        package = source.relative_to("edgefel").parent if source.parts[0] == "edgefel" else source.parent
        folder = Path("tests") / package
        whole = package.name and (
            tested(folder, package.name) or f"test_{package.name}" in stems.get(folder.parent, [])
        )
        if not (tested(folder, source.stem) or whole):
            missing.append(str(source))
    return missing


def files(folder: str, pattern: str) -> list[Path]:
    return sorted(path.relative_to(ROOT) for path in (ROOT / folder).rglob(pattern))


def test_a_sources_tests_are_found_by_its_name():
    sources = [path for folder in SOURCES for path in files(folder, "*.py") if not path.name.startswith("__")]
    assert not untested(sources, files("tests", "test_*.py"))


def test_a_test_of_another_name_or_folder_does_not_count():
    sources = [
        Path("edgefel/data/votes.py"),
        Path("calib/ranges.py"),
        Path("edgefel/data/readers/columns.py"),
    ]
    assert not untested(
        sources,
        [
            Path("tests/data/test_votes_of_raters.py"),
            Path("tests/calib/test_ranges.py"),
            Path("tests/data/test_readers.py"),
        ],
    )
    assert untested(
        sources,
        [
            Path("tests/data/test_voters.py"),
            Path("tests/test_ranges.py"),
            Path("tests/data/readers/test_column.py"),
        ],
    ) == [str(path) for path in sources]
