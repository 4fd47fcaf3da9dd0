"""Active sampling: which runs to simulate next, told by where an ensemble of predictors disagrees.

Members that were trained on the same few runs from other seeds agree where those runs taught them and differ where they guess
(query by committee, Seung et al., COLT 1992). The inputs of a run are known before it is simulated.

Legend of shapes: n windows, t time [h], i inputs, o outputs, r runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from building.errors import ShapeError
from building.predictor import Predictor

Array = NDArray[np.float64]

CHUNK = 16
"""Windows answered at once."""
UPPER_SHARE = 1 / 3
"""Runs are drawn at random from this share of the most disputed ones, so that they are not all of one kind."""


def disagreement(predictors: Sequence[Predictor], x_nti: NDArray[np.floating], spread_o: Array, warm_up_h: int = 0) -> Array:
    """Return how much an ensemble disagrees on each window, shape (n,).

    Args:
        predictors: two or more, of the same signatures.
        x_nti: scenarios, physical units, the predictors' input order.
        spread_o: standard deviation of each output over known data, the unit in which they disagree.
        warm_up_h: leading hours that do not count.

    Returns:
        Standard deviation over the ensemble divided by the spread, mean over hours and outputs.

    Raises:
        ShapeError: fewer than two predictors.
    """
    if len(predictors) < 2:
        raise ShapeError(what="the ensemble", shape=(len(predictors),), wanted="two or more predictors")
    scores = []
    for start in range(0, len(x_nti), CHUNK):
        x_btc = np.asarray(x_nti[start : start + CHUNK], dtype=float)
        answers = np.stack([p.predict(x_btc)[:, warm_up_h:] for p in predictors])
        scores.append((answers.std(axis=0) / spread_o).mean(axis=(1, 2)))
    return np.concatenate(scores)


def choose(scores_r: Array, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the positions of `n` runs, drawn from the upper third by score (from the upper `n` where that is more)."""
    upper = np.argsort(-scores_r, kind="stable")[: max(n, round(UPPER_SHARE * len(scores_r)))]
    return np.sort(rng.choice(upper, size=min(n, len(upper)), replace=False))
