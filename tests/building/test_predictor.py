"""The default `given`, on a fake whose answer depends on all of the past: y_t = 0.9 y_(t-1) + sum of inputs."""

import numpy as np
import pandas as pd
import pytest

from building.errors import IrregularTimeError, ShapeError
from building.predictor import GivenPast, Predictor, check_batch
from building.scenario import Scenario
from building.timeline import steps
from building.units import POWER, SHARE
from building.variables import Role, Signature, Variable

INPUTS = Signature(*(Variable(n, SHARE, Role.SETTING, 0, 1) for n in ("system_on", "dimmer")))
OUTPUTS = Signature(Variable("memory", POWER, Role.CONSUMPTION, 0, 100))
START = pd.Timestamp("2026-01-05T00:00Z")


class Leaky:
    inputs = INPUTS
    outputs = OUTPUTS

    def predict(self, x_btc):
        check_batch(x_btc, self.inputs)
        y, state = np.empty((*x_btc.shape[:2], 1)), np.zeros(len(x_btc))
        for t in range(x_btc.shape[1]):
            state = 0.9 * state + x_btc[:, t].sum(axis=-1)
            y[:, t, 0] = state
        return y

    def given(self, past):
        return GivenPast(self, past)


def scenario(start_h, n, seed):
    values = np.random.default_rng(seed).uniform(size=(n, 2))
    return Scenario(INPUTS, steps(START + pd.Timedelta(hours=start_h), n), values)


def test_fake_and_given_are_predictors():
    assert isinstance(Leaky(), Predictor)
    assert isinstance(Leaky().given(scenario(0, 5, 0)), Predictor)


def test_given_past_answers_as_the_whole_windows_do():
    past, futures = scenario(0, 12, 1), np.random.default_rng(2).uniform(size=(3, 7, 2))
    whole = Leaky().predict(np.concatenate([np.repeat(past.values[None], 3, axis=0), futures], axis=1))[:, 12:]
    given = Leaky().given(past)
    assert (given.inputs, given.outputs) == (INPUTS, OUTPUTS)
    assert np.array_equal(given.predict(futures), whole)
    assert not np.allclose(Leaky().predict(futures), whole)


def test_more_past_appends_to_the_past():
    first, second, futures = scenario(0, 6, 3), scenario(6, 4, 4), np.random.default_rng(5).uniform(size=(2, 5, 2))
    in_two = Leaky().given(first).given(second).predict(futures)
    assert np.array_equal(in_two, Leaky().given(first.then(second)).predict(futures))
    with pytest.raises(IrregularTimeError):
        Leaky().given(first).given(scenario(8, 4, 4))


@pytest.mark.parametrize("shape", [(5, 2), (1, 5, 3), (1, 5)])
def test_batch_of_another_shape_is_refused(shape):
    with pytest.raises(ShapeError, match="wanted \\(batch, time, 2\\)"):
        Leaky().predict(np.zeros(shape))
