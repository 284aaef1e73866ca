"""The prior of PDLS (arXiv 2204.02181): how annotators label the images of each class.

A prior is a matrix [C, C]: row y is the mean label distribution, by annotators or a classifier, of images of class y.
It is read from the votes of the training set or from a file, or is uniform, which makes PDLS ordinary label smoothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgefel.data.dataset import ImageDataset
from edgefel.data.labels import check_labels, match_labels
from edgefel.errors import EdgefelError
from edgefel.files.documents import check_shape, read_json
from edgefel.files.read import open_csv
from edgefel.files.write import write_text
from edgefel.text import counted
from edgefel.training.config import FROM_UNIFORM, FROM_VOTES

ROUNDED = 1e-4  # a row whose sum is this near to 1 is a distribution


def read_prior(source: str, train: ImageDataset) -> Tensor:
    """The prior for the classes of a training set, float32 [C, C], rows that sum to 1.

    Args:
        source: "uniform"; "votes", the mean soft label of the training images of each class; or a file: CSV with the
            class names in the first row and column (distributions, or counts such as a confusion matrix), or the
            confusion matrix in the evaluation.json of `edgefel evaluate`.

    Raises:
        EdgefelError: there are no votes, or the file cannot be read, lacks a class or has a row of zeros.
    """
    labels = train.labels
    if source == FROM_UNIFORM:
        return torch.full((len(labels), len(labels)), 1.0 / len(labels))
    if source == FROM_VOTES:
        return _of_votes(train)
    names, matrix = _from_json(Path(source)) if source.endswith(".json") else _from_csv(Path(source))
    return _for_classes(matrix, names, labels, source)


def write_prior(file: Path, labels: Sequence[str], prior: Tensor) -> None:
    """Writes a prior as CSV, from which `read_prior` reads the same bits."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("", *labels))
    table.writerows((label, *row) for label, row in zip(labels, prior.numpy(), strict=True))
    write_text(file, text.getvalue())


def _of_votes(train: ImageDataset) -> Tensor:
    votes = train.soft_targets()
    if votes is None:
        raise EdgefelError(
            f"{train.root}: has no soft labels to take a prior from; give a file, or --prior uniform"
        )
    targets = train.targets()
    rows = [votes[targets == label].mean(0) for label in range(len(train.labels)) if (targets == label).any()]
    if len(rows) < len(train.labels):
        raise EdgefelError(f"{train.root}: a class has no training image to take a prior from; give a file")
    return _for_classes(np.stack(rows), train.labels, train.labels, str(train.root))


def _for_classes(
    matrix: npt.NDArray[np.float64], names: Sequence[str], labels: Sequence[str], where: str
) -> Tensor:
    """The rows and columns of `labels`, by name, with rows normalized to sum to 1."""
    match = match_labels(check_labels(list(names), where), labels)
    if matrix.shape != (len(names), len(names)):
        raise EdgefelError(
            f"{where}: a matrix of shape {matrix.shape} for {counted(len(names), 'class', 'classes')}"
        )
    if match.only_other:
        raise EdgefelError(
            f"{where}: a prior without the classes {', '.join(match.only_other)}; it has {', '.join(names)}"
        )
    order = match.columns
    chosen = matrix[np.ix_(order, order)].astype(np.float64)
    sums = chosen.sum(1, keepdims=True)
    if not np.isfinite(chosen).all() or (chosen < 0).any() or (sums <= 0).any():
        raise EdgefelError(f"{where}: every row of a prior needs numbers of 0 or more, and one above 0")
    # published priors are rounded to six digits and used as printed
    return torch.from_numpy(np.where(np.abs(sums - 1) < ROUNDED, chosen, chosen / sums)).float()


def _from_csv(file: Path) -> tuple[list[str], npt.NDArray[np.float64]]:
    if not file.exists():
        raise EdgefelError(f"{file}: no such file; a prior is uniform, votes, or a CSV or JSON file")
    with open_csv(file) as table:
        rows = [table.columns, *table]
    names = table.columns[1:]
    if not names or [row[0].strip() for row in rows[1:]] != names:
        raise EdgefelError(
            f"{file}: the first row and the first column must name the same classes, in one order"
        )
    try:
        matrix = np.array([[float(cell) for cell in row[1:]] for row in rows[1:]], dtype=np.float64)
        if matrix.shape != (len(names), len(names)):
            raise ValueError
        return names, matrix
    except ValueError:
        raise EdgefelError(f"{file}: needs {len(names)} numbers in every row") from None


def _from_json(file: Path) -> tuple[list[str], npt.NDArray[np.float64]]:
    evaluation = read_json(file)
    try:
        check_shape(evaluation, {"labels": [str], "with_head?": dict, "without_head?": dict}, str(file))
        judged = evaluation.get("with_head") or evaluation.get("without_head") or {}
        confusion = np.array(judged["confusion"], dtype=np.float64)
        return evaluation["labels"], confusion
    except (EdgefelError, KeyError, TypeError, ValueError, OverflowError):
        raise EdgefelError(f"{file}: holds no confusion matrix of edgefel evaluate") from None
