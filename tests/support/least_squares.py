"""Least squares written out with dummies, as an oracle."""

import numpy as np


def fit_rows_and_columns(table: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Solve row + column for a table with holes, NaN.

    Returns the rows' means over all columns with a value, the columns' effects, which sum to 0, and the
    design's rank; of rows and columns that have a value alone.
    """
    places = np.argwhere(~np.isnan(table))
    rows, columns = np.unique(places[:, 0]), np.unique(places[:, 1])
    design = np.zeros((len(places), len(rows) + len(columns)))
    for number, (row, column) in enumerate(places):
        design[number, list(rows).index(row)] = 1
        design[number, len(rows) + list(columns).index(column)] = 1
    solved = np.linalg.lstsq(design, table[tuple(places.T)], rcond=None)[0]
    effects = solved[len(rows) :] - solved[len(rows) :].mean()
    means = solved[: len(rows)] + solved[len(rows) :].mean()
    return means, effects, int(np.linalg.matrix_rank(design))
