"""Going on with unfinished work."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from data.preparing.photos import (
    SIZE,
    interrupt,
    journal,
    make_photos,
    run,
    tree,
)

from edgefel.data.dataset import ImageDataset
from edgefel.errors import EdgefelError
from edgefel.files.resumable import partial_folder


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
def test_going_on_gives_the_same_bytes(photos, once, tmp_path, before, after):
    output = tmp_path / "out"
    interrupt(photos, output, 8, before)
    interrupt(photos, output, 16, before)
    seen = []
    run(photos, output, workers=after, progress=seen.append)
    assert sum(seen) == 40 - 24
    assert tree(output) == once


def test_what_a_crash_leaves_is_done_again(photos, once, tmp_path):
    """A last line without its end, a face that was entered and is not there, one that is cut off, one that changed."""
    output = tmp_path / "out"
    interrupt(photos, output, 24)
    lines = journal(output).read_bytes().splitlines()
    faces = sorted((partial_folder(output) / "faces").rglob("*.png"))
    faces[0].unlink()
    faces[1].write_bytes(faces[1].read_bytes()[:-3])
    faces[2].write_bytes(b"")
    journal(output).write_bytes(b"\n".join(lines)[:-2])
    run(photos, output)
    assert tree(output) == once


def test_unfinished_work_of_something_else_is_refused(photos, once, tmp_path):
    output = tmp_path / "out"
    interrupt(photos, output, 8)
    with pytest.raises(EdgefelError, match="unfinished run with missing skip, not center"):
        run(photos, output, missing="center")
    with pytest.raises(EdgefelError, match="unfinished run with images 40, not 20"):
        run(photos.subset(range(20)), output)
    relabelled = ImageDataset(photos.root, photos.labels, tuple(reversed(photos.samples)))
    with pytest.raises(EdgefelError, match="with other images, labels or splits"):
        run(relabelled, output)
    moved = make_photos(tmp_path / "photos")
    with pytest.raises(EdgefelError, match=f"not {tmp_path}/photos; finish that"):
        run(moved, output)
    run(photos, output)  # refusing has harmed nothing
    assert tree(output) == once


def test_a_second_run_at_once_is_refused(photos, tmp_path):
    refused = []

    def progress(done):
        for restart in (False, True):
            with pytest.raises(EdgefelError, match="another run is working there"):
                run(photos, tmp_path / "out", restart=restart)
            refused.append(restart)

    run(photos, tmp_path / "out", progress=progress)
    assert set(refused) == {False, True}


def test_a_journal_that_is_none(photos, tmp_path):
    work = partial_folder(tmp_path / "out")
    for text in ("shopping list\n", '{"format": 1}\n'):
        work.mkdir(exist_ok=True)
        (work / "journal").write_text(text)
        with pytest.raises(EdgefelError, match="is no journal of this version"):
            run(photos, tmp_path / "out")
    interrupt(photos, tmp_path / "other", 8)
    with journal(tmp_path / "other").open("a") as stream:
        stream.write("99 d 12\n")
    with pytest.raises(EdgefelError, match="begin anew with --restart"):
        run(photos, tmp_path / "other")
    (work / "journal").unlink()
    (work / "precious").write_text("")
    with pytest.raises(EdgefelError, match="it is not this command's"):
        run(photos, tmp_path / "out", restart=True)
    assert (work / "precious").is_file()


LIMITED = """
import resource, sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
from edgefel.runtime.faces import RuntimeFaces
from edgefel.data.open import open_dataset
from edgefel.data.preparing.run import prepare
from edgefel.data.preparing.plan import PrepareOptions
from edgefel.errors import EdgefelError
from streams import SquareDetector

resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
options = PrepareOptions(size={size}, image_format="png")
try:
    prepare(open_dataset(sys.argv[1]), sys.argv[2], lambda: RuntimeFaces(SquareDetector(), {size}), options)
except EdgefelError as error:
    print(error)
    sys.exit(2)
"""


def test_a_full_disk_keeps_what_is_done(photos, once, tmp_path):
    """The journal cannot grow beyond some byte in the middle of a line."""
    output = tmp_path / "out"
    interrupt(photos, output, 8, workers=1)
    limit = journal(output).stat().st_size + 61  # four to seven lines, and a part of one
    code = LIMITED.format(tests=str(Path(__file__).parents[2]), limit=limit, size=SIZE)
    command = [sys.executable, "-c", code, str(photos.root), str(output)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stderr
    assert result.stdout.count("\n") == 1
    assert (
        "cannot be written (File too large); free disk space and give the same command again" in result.stdout
    )
    assert journal(output).stat().st_size == limit
    kept = journal(output).read_bytes()
    assert not kept.endswith(b"\n")
    seen = []
    run(photos, output, progress=seen.append)
    assert sum(seen) == 40 - (kept.count(b"\n") - 1) < 32
    assert tree(output) == once
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != limit
