"""Which detection belongs to which track: the assignment of least cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Costs = npt.NDArray[np.float64]


def assign(costs: npt.NDArray[np.floating[Any]]) -> list[tuple[int, int]]:
    """Pairs (row, column) of a cost matrix [N, M], each row and column at most once, in order of the rows.

    Infinite costs are pairs that must not be. Of the assignments with the most allowed pairs, the one of least
    cost; raises ValueError for NaN.
    """
    matrix = np.asarray(costs, dtype=np.float64)
    if matrix.ndim != 2 or np.isnan(matrix).any():
        raise ValueError(f"costs of shape {matrix.shape}: expected a matrix without NaN")
    allowed = np.isfinite(matrix)
    if not allowed.any():
        return []
    rows = allowed.any(axis=1).nonzero()[0]
    cheapest = matrix[rows].argmin(axis=1)
    if len(set(cheapest.tolist())) == len(rows):
        # nobody wants the same: as a rule so, between two frames
        return list(zip(rows.tolist(), cheapest.tolist(), strict=True))
    # dearer than any set of allowed pairs, so that a forbidden pair is taken only where nothing else is left
    span = matrix[allowed].max() - matrix[allowed].min() + 1
    filled = np.where(allowed, matrix, matrix[allowed].max() + span * (min(matrix.shape) + 1))
    if filled.shape[0] <= filled.shape[1]:
        pairs = list(enumerate(_match_rows(filled)))
    else:
        pairs = sorted((row, column) for column, row in enumerate(_match_rows(filled.T)))
    return [(row, column) for row, column in pairs if allowed[row, column]]


def _match_rows(costs: Costs) -> list[int]:
    """The column of every row, for at least as many columns as rows.

    Shortest augmenting paths with dual variables: Crouse, "On implementing 2D rectangular assignment
    algorithms", IEEE Transactions on Aerospace and Electronic Systems 52(4), 2016, section III.
    """
    rows, columns = costs.shape
    row_price, column_price = np.zeros(rows), np.zeros(columns)
    column_of = np.full(rows, -1)
    row_of = np.full(columns, -1)
    for start in range(rows):
        distance = np.full(columns, np.inf)
        previous = np.full(columns, -1)
        done = np.zeros(columns, dtype=bool)
        visited = [start]
        row, reached = start, 0.0
        while True:
            through = reached + costs[row] - row_price[row] - column_price
            shorter = ~done & (through < distance)
            distance[shorter], previous[shorter] = through[shorter], row
            column = int(np.where(done, np.inf, distance).argmin())
            reached = float(distance[column])
            done[column] = True
            if row_of[column] < 0:
                break
            row = int(row_of[column])
            visited.append(row)
        for other in visited:
            row_price[other] += reached - (0 if other == start else distance[column_of[other]])
        column_price[done] -= reached - distance[done]
        while column >= 0:  # turn the path around: each row on it takes the column that led away from it
            row = int(previous[column])
            row_of[column] = row
            column_of[row], column = column, int(column_of[row])
    return [int(column) for column in column_of]
