"""Assignment of detections to tracks at the least total cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Costs = Sequence[Sequence[float]]


def assign(costs: Costs) -> list[tuple[int, int]]:
    """The pairs (row, column) of a least-cost assignment, sorted by row. costs: N rows of M numbers.

    A pair with an infinite cost is forbidden. The number of pairs comes before their cost. Raises ValueError for NaN.
    """
    if any(math.isnan(cost) for row in costs for cost in row):
        raise ValueError("costs with NaN among them: expected numbers or infinity")
    # first each row's cheapest column, without NumPy, whose call overhead is larger for a few faces
    pairs = [
        (number, row.index(cheapest))
        for number, row in enumerate(costs)
        if (cheapest := min(row, default=math.inf)) < math.inf
    ]
    if len({column for _, column in pairs}) == len(pairs):
        return pairs  # no conflict, the usual case between two frames
    matrix = np.array(costs, dtype=np.float64)
    allowed = np.isfinite(matrix)
    # more expensive than any set of allowed pairs, so that forbidden pairs are chosen last
    span = matrix[allowed].max() - matrix[allowed].min() + 1
    filled = np.where(allowed, matrix, matrix[allowed].max() + span * (min(matrix.shape) + 1))
    if filled.shape[0] <= filled.shape[1]:
        pairs = list(enumerate(_match_rows(filled)))
    else:
        pairs = sorted((row, column) for column, row in enumerate(_match_rows(filled.T)))
    return [(row, column) for row, column in pairs if allowed[row, column]]


def _match_rows(costs: npt.NDArray[np.float64]) -> list[int]:
    """The column of every row. costs: at least as many columns as rows.

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
        while column >= 0:  # reverse the path: each row on it takes the column that led away from it
            row = int(previous[column])
            row_of[column] = row
            column_of[row], column = column, int(column_of[row])
    return [int(column) for column in column_of]
