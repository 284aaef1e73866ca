"""Which detection belongs to which track: the assignment of least cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Costs = Sequence[Sequence[float]]


def assign(costs: Costs) -> list[tuple[int, int]]:
    """Pairs (row, column) of a cost matrix, N rows of M numbers, each of both at most once, in order of the rows.

    Infinite costs are pairs that must not be. Of the assignments with the most allowed pairs, the one of least
    cost; raises ValueError for NaN.
    """
    if any(math.isnan(cost) for row in costs for cost in row):
        raise ValueError("costs with NaN among them: expected numbers or infinity")
    # each row's cheapest, in plain numbers: for a few faces NumPy's calls take longer
    pairs = [
        (number, row.index(cheapest))
        for number, row in enumerate(costs)
        if (cheapest := min(row, default=math.inf)) < math.inf
    ]
    if len({column for _, column in pairs}) == len(pairs):
        # nobody wants the same: as a rule so, between two frames
        return pairs
    matrix = np.array(costs, dtype=np.float64)
    allowed = np.isfinite(matrix)
    # dearer than any set of allowed pairs, so that a forbidden pair is taken only where nothing else is left
    span = matrix[allowed].max() - matrix[allowed].min() + 1
    filled = np.where(allowed, matrix, matrix[allowed].max() + span * (min(matrix.shape) + 1))
    if filled.shape[0] <= filled.shape[1]:
        pairs = list(enumerate(_match_rows(filled)))
    else:
        pairs = sorted((row, column) for column, row in enumerate(_match_rows(filled.T)))
    return [(row, column) for row, column in pairs if allowed[row, column]]


def _match_rows(costs: npt.NDArray[np.float64]) -> list[int]:
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
