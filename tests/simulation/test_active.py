import numpy as np
import pytest

from building.errors import ShapeError
from simulation.active import choose, disagreement


class Scaled:
    """Answers the first input times a factor, on two outputs."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def predict(self, x_btc: np.ndarray) -> np.ndarray:
        return np.repeat(x_btc[:, :, :1] * self.factor, 2, axis=2)


def test_disagreement_is_the_deviation_over_the_spread_after_the_warm_up(rng: np.random.Generator) -> None:
    x = rng.uniform(1, 2, (40, 30, 3))
    x[:, :10] = 1e6  # warm-up
    found = disagreement([Scaled(1.0), Scaled(3.0)], x, np.array([1.0, 2.0]), warm_up_h=10)
    # The deviation of a x and 3 a x is a x; over spreads 1 and 2 the mean of 1 and a half.
    np.testing.assert_allclose(found, 0.75 * x[:, 10:, 0].mean(axis=1))


def test_members_that_answer_alike_disagree_on_nothing() -> None:
    assert disagreement([Scaled(2.0)] * 3, np.ones((5, 4, 1)), np.ones(2)).tolist() == [0] * 5


def test_one_predictor_is_no_ensemble() -> None:
    with pytest.raises(ShapeError, match="two or more"):
        disagreement([Scaled(1.0)], np.ones((5, 4, 1)), np.ones(2))


def test_runs_are_chosen_from_the_most_disputed_third_and_not_only_its_top(rng: np.random.Generator) -> None:
    scores = rng.permutation(np.arange(90.0))
    chosen = choose(scores, 10, np.random.default_rng(1))
    assert len(set(chosen)) == 10 and scores[chosen].min() >= 60
    assert scores[chosen].min() < 80, "the ten greatest would be all of one kind"
    np.testing.assert_array_equal(chosen, choose(scores, 10, np.random.default_rng(1)))


def test_more_runs_than_a_third_are_the_most_disputed_ones(rng: np.random.Generator) -> None:
    scores = rng.permutation(np.arange(30.0))
    assert sorted(scores[choose(scores, 20, rng)]) == list(range(10, 30))
    assert len(choose(scores, 50, rng)) == 30
