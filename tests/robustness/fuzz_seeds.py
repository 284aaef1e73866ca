"""The sound files that tests/robustness/fuzz_inputs.py breaks."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

BUNDLE = Path(__file__).resolve().parent.parent / "bundles" / "nano-synthetic"


def write_seeds(work: Path) -> None:
    """The sound files that are broken afterwards; small, so that a sound one takes little time."""
    import cv2
    import torch

    from edgefel.bench.environment import describe
    from edgefel.bench.results import append_results, make_row
    from edgefel.data.preprocessing import default_preprocessing
    from edgefel.data.synthetic import FaceOptions
    from edgefel.data.synthetic.write import write_faces
    from edgefel.models.checkpoint import save_checkpoint
    from edgefel.models.registry import build_model
    from edgefel.training.config import TrainConfig, dump_config

    write_faces(work / "faces", FaceOptions(count=42, size=48, subjects=12))
    images = sorted((work / "faces" / "images").iterdir())
    shutil.copy(images[0], work / "crop.png")
    _write_images(work / "sound", cv2.imread(str(images[0])))
    rows = list(csv.DictReader((work / "faces" / "labels.csv").open(encoding="utf-8")))
    with (work / "manifest.csv").open("w", encoding="utf-8") as stream:
        stream.write("path,label,split,group,x,y,width,height\n")
        stream.writelines(
            f"faces/{r['path']},{r['label']},{r['split']},{r['subject']},0,0,40,40\n" for r in rows
        )
    _write_data_sets(work, images, rows)
    shutil.copytree(BUNDLE, work / "bundle")
    torch.manual_seed(0)
    model = build_model("arbex-nano")
    from edgefel.data.labels import EXPRESSIONS_7

    save_checkpoint(work / "run", model, EXPRESSIONS_7, default_preprocessing(112).to_dict())
    (work / "pointed").mkdir()
    (work / "pointed" / "last.json").write_text('{"checkpoint": "../run", "step": 3, "epoch": 1}')
    (work / "config.yaml").write_text(dump_config(TrainConfig(model="arbex-nano")))
    (work / "limits.yaml").write_text(
        "int8:\n  min_sqnr_db: 12\n  max_recall_loss: 1.5\nfp16: {max_deviation: 0.1}\n"
    )
    timing = dict.fromkeys(("p50", "p90", "p95", "p99", "mean", "min"), 2.0) | {
        "runs": 9,
        "p50_interval": [1.9, 2.1],
    }
    (work / "rows").mkdir()
    for name in "ab":
        subjects = [
            {"model": "arbex", "precision": p, "backend": "onnxruntime", "batch": 1} for p in ("fp32", "int8")
        ]
        made = [
            make_row("latency", subject, {"latency_ms": timing, "size_mb": 2.0}, describe())
            for subject in subjects
        ]
        append_results(work / "rows" / f"{name}.jsonl", made)
    _run("calibrate --data {work}/faces -o {work}/set.json --per-class 1", work)
    # a set that is taken would be exported with, which takes seconds; its key does not cover where the images are
    chosen = json.loads((work / "set.json").read_text(encoding="utf-8"))
    (work / "set.json").write_text(json.dumps({**chosen, "root": str(work / "nowhere")}), encoding="utf-8")
    _write_journal(work)
    _run("pack {work}/bundle -o {work}/packed --no-kernels", work)


def _run(command: str, work: Path) -> None:
    from click.testing import CliRunner

    from edgefel.cli.main import main

    done = CliRunner().invoke(main, command.format(work=work).split(), catch_exceptions=False)
    if done.exit_code:
        raise SystemExit(f"{command}: {done.output}")


def _write_images(folder: Path, original: Any) -> None:
    import cv2
    import numpy as np

    folder.mkdir()
    deep = original.astype(np.uint16) * 257
    for name, pixels in (
        *(
            ("a.png", original),
            ("b.jpg", original),
            ("c.webp", original),
            ("d.bmp", original),
            ("e.tif", original),
        ),
        *(
            ("f.png", deep),
            ("g.tif", deep),
            ("h.tif", (original / 255).astype(np.float32)),
            ("i.png", original[..., 0]),
        ),
        *(("j.png", np.dstack([original, original[..., :1]])), ("k.gif", original), ("l.avif", original)),
    ):
        suffix = name[1:]
        if cv2.haveImageWriter(name):
            (folder / name).write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())


def _write_data_sets(work: Path, images: list[Path], rows: list[dict[str, str]]) -> None:
    import io
    import tarfile

    (work / "shards").mkdir()
    with tarfile.open(work / "shards" / "train-0.tar", "w") as archive:
        for image, row in zip(images[:6], rows, strict=False):
            said = json.dumps(
                {"label": row["label"], "group": row["subject"], "box": [0, 0, 40, 40]}
            ).encode()
            for name, data in ((image.name, image.read_bytes()), (f"{image.stem}.json", said)):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    fer = work / "fer"
    names = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    lines = [f"Usage,Image name,{names}"]
    for number, (usage, folder) in enumerate(
        (("Training", "FER2013Train"), ("PublicTest", "FER2013Valid"), ("PrivateTest", "FER2013Test"))
    ):
        (fer / folder).mkdir(parents=True)
        shutil.copy(images[number], fer / folder / f"fer{number:07d}.png")
        lines.append(f"{usage},fer{number:07d}.png,8,2,0,0,0,0,0,0,0,0")
    (fer / "fer2013new.csv").write_text("\n".join(lines) + "\n")
    (work / "expw" / "origin").mkdir(parents=True)
    for number in range(3):
        shutil.copy(images[number], work / "expw" / "origin" / f"{number}.png")
    (work / "expw" / "label.lst").write_text("".join(f"{n}.png 0 4 4 40 40 50.5 {n}\n" for n in range(3)))
    affect = work / "affect"
    (affect / "Manually_Annotated_file_lists").mkdir(parents=True)
    (affect / "Manually_Annotated_Images" / "1").mkdir(parents=True)
    for number in range(3):
        shutil.copy(images[number], affect / "Manually_Annotated_Images" / "1" / f"{number}.png")
    head = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
    for name in ("training", "validation"):
        lines = [head, *(f"1/{n}.png,2,2,40,40,1.5;2.5,{n},0.1,0.2" for n in range(3))]
        (affect / "Manually_Annotated_file_lists" / f"{name}.csv").write_text("\n".join(lines) + "\n")
    aligned = work / "raf" / "Image" / "aligned"
    aligned.mkdir(parents=True)
    for number in range(1, 5):
        shutil.copy(images[number], aligned / f"{'train' if number < 4 else 'test'}_{number:05d}_aligned.jpg")
    listed = [f"{'train' if number < 4 else 'test'}_{number:05d}.jpg {number}" for number in range(1, 5)]
    (work / "raf" / "list_patition_label.txt").write_text("\n".join(listed) + "\n")


def _write_journal(work: Path) -> None:
    """Of an unfinished `data prepare`, which has done one image."""
    from edgefel.data.open import open_dataset
    from edgefel.data.preparing.journal import MISSING, Journal
    from edgefel.data.preparing.plan import PrepareOptions, PreparePlan
    from edgefel.files.resumable import partial_folder

    partial = partial_folder(work / "crops")
    (partial / "faces").mkdir(parents=True)
    dataset = open_dataset(work / "faces")
    plan = PreparePlan.of(
        dataset,
        PrepareOptions(
            size=16, tools=dict.fromkeys(("detector", "detector_model", "min_face")) | {"detector": "none"}
        ),
    )
    with Journal.open(partial / "journal", plan.key(), len(plan)) as journal:
        journal.add(0, MISSING)
