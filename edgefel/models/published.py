"""Import of published checkpoints.

`published_layouts` translates the names. Entries that networks never use are dropped; anything else that is missing,
unknown or wrongly shaped is refused.

Trainers wrap networks (`module.`, `_orig_mod.`, `model.`) and store other entries beside the weights; some store
averaged weights beside the raw ones. The set that fits the layout best is taken; of sets that fit equally the averaged
one, which those trainers evaluate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgefel.data.dataset import ImageDataset
from edgefel.data.framing import FindFaces, FramingFound, for_images_like, measure_framing
from edgefel.data.labels import choose_labels
from edgefel.errors import EdgefelError
from edgefel.files.write import sha256
from edgefel.models.checkpoint import check_values, save_checkpoint, save_part
from edgefel.models.config import ModelConfig
from edgefel.models.network import FacialExpressionModel
from edgefel.models.pickles import WRAPPERS, Contents, WeightSet, averaged, listed, read_contents
from edgefel.models.published_layouts import LAYOUTS, PREPROCESSING, translate
from edgefel.models.registry import model_config

_PARTS = {"ir50": "encoder.image_stream", "mobilefacenet": "encoder.landmark_stream"}


@dataclass(frozen=True)
class Imported:
    """What a published file holds.

    model: the whole network in evaluation mode, or None for a backbone. part: prefix of `weights` for a backbone, e.g.
    "encoder.image_stream". weights: our names -> tensors. unused: published entries that the network never uses.
    classes: the file's own class names in output order; empty if it has none. notes: what was chosen or left out of a
    file with more than one set of weights.
    """

    model: FacialExpressionModel | None
    part: str | None
    weights: dict[str, Tensor]
    unused: tuple[str, ...]
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def import_published(files: Sequence[str | Path], layout: str) -> Imported:
    """Reads published checkpoint files: one, or three for "arbex" (encoder, classifier, anchors; in any order).

    layout: one of LAYOUTS. Raises EdgefelError for a file that is missing, truncated or holds code, for another layout,
    and for entries that are missing, unknown, wrongly shaped or not finite (with the list).
    """
    if layout not in LAYOUTS:
        raise EdgefelError(f"unknown layout '{layout}'; known: {', '.join(LAYOUTS)}")
    if layout != "arbex" and len(files) != 1:
        raise EdgefelError(f"layout '{layout}' is one file, got {len(files)}")
    where = ", ".join(map(str, files))
    published, classes, notes = _read(files, layout)
    ours = {key: translate(layout, key) for key in published}
    names = {own: key for key, own in ours.items() if own}  # our names -> the file's
    weights = {own: published[key] for own, key in names.items()}
    part = _PARTS.get(layout)
    config = _config(weights, layout)
    with torch.device("meta"):
        model = FacialExpressionModel(config)
    expected = {
        key: value for key, value in model.state_dict().items() if part is None or key.startswith(f"{part}.")
    }
    _refuse_misfits(where, layout, weights, expected, [key for key, own in ours.items() if own is None])
    weights = {
        key: _as(expected[key].dtype, value, f"{where}: {names[key]}") for key, value in weights.items()
    }
    check_values(where, weights, names)
    if part is None:
        model.load_state_dict(weights, assign=True)
    unused = tuple(key for key, own in ours.items() if own == "")
    return Imported(model.eval() if part is None else None, part, weights, unused, classes, notes)


def import_to_checkpoint(
    files: Sequence[str | Path],
    layout: str,
    output: str | Path,
    labels: str | None = None,
    resize: int | None = None,
    data: ImageDataset | None = None,
    find: FindFaces | None = None,
) -> dict[str, Any]:
    """Reads published files and writes a checkpoint folder: what `edgefel import` does. Returns a summary.

    labels: see `edgefel.data.labels.choose_labels`; None takes the file's own names. A backbone has none. resize: side
    that images are resized to before the crop, where the training differed from the release's; None is the release's.
    data, find: images that the network was trained on, and what finds the faces in them: their framing, detail and
    colour go with the checkpoint, which without them has none of these, since no release says where the eyes of its
    aligned faces are.
    """
    for option, value in (("--labels", labels), ("--resize", resize), ("--data", data)):
        if layout in _PARTS and value is not None:
            raise EdgefelError(f"layout '{layout}' is a backbone, which labels nothing; leave out {option}")
    own = PREPROCESSING.get(layout)
    if own is not None and resize is not None:
        own = replace(own, resize=resize)
    imported = import_published(files, layout)
    sources = [{"file": Path(file).name, "sha256": sha256(file)} for file in files]
    extra = {"source": {"layout": layout, "files": sources, "notes": list(imported.notes)}}
    names: tuple[str, ...] = ()
    preprocessing: dict[str, Any] | None = None
    found: FramingFound | None = None
    if imported.model is None or own is None:
        assert imported.part is not None
        save_part(output, imported.part, imported.weights, extra)
    else:
        where = ", ".join(map(str, files))
        names = choose_labels(labels, imported.classes, imported.model.config.num_classes, where)
        if data is not None and find is not None:
            own, found = for_images_like(own, data), measure_framing(data, find)
        preprocessing = own.to_dict()
        save_checkpoint(
            output, imported.model, names, preprocessing, extra, None if found is None else found.framing
        )
    return {
        "layout": layout,
        "output": str(output),
        "entries": len(imported.weights),
        "unused": len(imported.unused),
        "labels": list(names),
        "preprocessing": preprocessing,
        "framing": None if found is None else found.to_dict(),
        "notes": list(imported.notes),
    }


def _read(
    files: Sequence[str | Path], layout: str
) -> tuple[dict[str, Tensor], tuple[str, ...], tuple[str, ...]]:
    """The published entries of all files, the class names, and notes."""
    published: dict[str, Tensor] = {}
    classes: tuple[str, ...] = ()
    notes: list[str] = []
    for file in files:
        contents = read_contents(file)
        tensors, found = _choose(contents, layout, str(file))
        if repeated := sorted(set(tensors) & set(published)):
            raise EdgefelError(f"{file}: repeats entries of another file: {listed(repeated)}")
        published |= tensors
        classes = classes or contents.classes
        notes += [f"{Path(file).name}: {note}" for note in found]
    return published, classes, tuple(notes)


def _as(dtype: torch.dtype, value: Tensor, where: str) -> Tensor:
    """The values in the network's own type: files may be in half or double precision."""
    if not dtype.is_floating_point and value.is_floating_point():
        value = value.nan_to_num(0, 0, 0)  # a counter, which a cast of the whole file may have made infinite
    if not value.is_complex() and (value.is_floating_point() or not dtype.is_floating_point):
        return value.to(dtype)
    raise EdgefelError(
        f"{where}: holds {value.dtype} values, not weights in floating point; give the unquantized file"
    )


def _config(weights: Mapping[str, Tensor], layout: str) -> ModelConfig:
    """The configuration by the shapes of the head; the encoder has one published size."""
    if layout in ("poster-v2", "apvit"):
        head = weights.get("head.linear.weight")
        return model_config(layout, num_classes=7 if head is None else max(head.shape[0], 2))
    if layout != "arbex":
        return model_config("arbex")
    keys = [key for key in weights if re.fullmatch(r"head\.classifier\.\d+\.weight", key)]
    keys.sort(key=lambda key: int(key.split(".")[2]))
    linears = [weights[key] for key in keys if weights[key].ndim == 2]
    anchors = weights.get("head.anchors")
    return model_config(
        "arbex",
        num_classes=max(linears[-1].shape[0], 2) if linears else 8,
        head={
            "embedding_dim": 768,
            "hidden": tuple(linear.shape[0] for linear in linears[:-1]),
            "norm_first": True,
            "anchors_per_class": anchors.shape[1] if anchors is not None and anchors.ndim == 3 else 1,
            "attentive": False,
        },
    )


def _refuse_misfits(
    where: str,
    layout: str,
    weights: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    unknown: Sequence[str],
) -> None:
    missing = [key for key in expected if key not in weights]
    surplus = [*unknown, *(key for key in weights if key not in expected)]
    shapes = [
        f"{key} {tuple(weights[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in weights and weights[key].shape != value.shape
    ]
    if not (missing or surplus or shapes):
        return
    if len(missing) == len(expected):
        raise EdgefelError(
            f"{where}: nothing in it has a name of the layout '{layout}'; "
            f"try another --layout ({', '.join(LAYOUTS)}); its entries: {listed(list(unknown), 5)}"
        )
    found = [("missing", missing), ("unknown", surplus), ("wrong shape", shapes)]
    problems = "; ".join(f"{len(entries)} {kind}: {listed(entries)}" for kind, entries in found if entries)
    raise EdgefelError(f"{where}: does not fit the layout '{layout}': {problems}")


@dataclass(frozen=True)
class _Candidate:
    found: WeightSet
    prefix: str
    fitting: int  # entries that the layout uses

    @property
    def name(self) -> str:
        """Its place in the file, for messages."""
        return ".".join((*self.found.path, self.prefix.removesuffix("."))).strip(".") or "the top of the file"

    @property
    def rank(self) -> tuple[int, bool, int]:
        names = [name for name in (*self.found.path, *self.prefix.split(".")) if name in WRAPPERS]
        return self.fitting, averaged(self.name), -min(map(WRAPPERS.index, names), default=len(WRAPPERS))


def _choose(contents: Contents, layout: str, where: str) -> tuple[dict[str, Tensor], list[str]]:
    """The entries of the best set for `layout`, by published names without their prefix, and notes on the choice.

    If nothing fits, the largest set unchanged, for the message on misfits. Raises EdgefelError for entries of the
    network that are no plain tensors, and for two sets of equal rank.
    """
    candidates = [
        _Candidate(found, prefix, _fitting(found.tensors, prefix, layout))
        for found in contents.sets
        for prefix in _prefixes(found.tensors)
    ]
    best = max(candidates, key=lambda one: one.rank)
    if not best.fitting:
        return dict(max(contents.sets, key=lambda found: len(found.tensors)).tensors), []
    others = [one for one in candidates if one is not best and 2 * one.fitting > best.fitting]
    if twin := next((one for one in others if one.rank == best.rank), None):
        raise EdgefelError(
            f"{where}: holds two sets of weights, {best.name} and {twin.name}, and nothing says which is the network; "
            "save one of them alone"
        )
    for key, problem in best.found.unusable.items():
        if key.startswith(best.prefix) and translate(layout, key.removeprefix(best.prefix)):
            raise EdgefelError(f"{where}: {key} is {problem}; save the weights as plain float32 tensors")
    tensors = {
        key.removeprefix(best.prefix): value
        for key, value in best.found.tensors.items()
        if key.startswith(best.prefix)
    }
    return tensors, list(_notes(best, others))


def _prefixes(tensors: Mapping[str, Tensor]) -> list[str]:
    """Possible prefixes of the network's names: wrappers, averages, and prefixes that all entries share."""
    found = [""]
    for key in tensors:
        wrapping = takewhile(lambda part: part in WRAPPERS or averaged(part), key.split(".")[:-1])
        found += accumulate(f"{part}." for part in wrapping)
    return list(dict.fromkeys([*found, *_shared(tensors)]))


def _shared(keys: Iterable[str]) -> Iterator[str]:
    columns = zip(*(key.split(".")[:-1] for key in keys), strict=False)
    common = takewhile(lambda column: len(set(column)) == 1, columns)
    return accumulate(f"{column[0]}." for column in common)


def _fitting(tensors: Mapping[str, Tensor], prefix: str, layout: str) -> int:
    return sum(bool(translate(layout, key.removeprefix(prefix))) for key in tensors if key.startswith(prefix))


def _notes(best: _Candidate, others: list[_Candidate]) -> Iterator[str]:
    if others:
        kind = "averaged weights" if averaged(best.name) else "what fits best"
        names = listed([one.name for one in others], 5)
        yield f"took {best.name} ({kind}); not taken: {names}"
    taken = [best.prefix, *(one.prefix for one in others if one.found is best.found)]
    if outside := [key for key in best.found.tensors if not key.startswith(tuple(taken))]:
        yield f"left out {len(outside)} entries that are not under {best.prefix}: {listed(outside, 5)}"
