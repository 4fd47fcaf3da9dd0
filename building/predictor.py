"""The Predictor protocol: EnergyPlus, the Transformer, the ONNX session and the two-node building are one thing."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from building.errors import ShapeError
from building.scenario import Scenario
from building.variables import Signature

Array = NDArray[np.float64]


@runtime_checkable
class Predictor(Protocol):
    """Answers how a building behaves when it is run in a given way."""

    @property
    def inputs(self) -> Signature:
        """Channels of a scenario."""

    @property
    def outputs(self) -> Signature:
        """Channels of a response."""

    def predict(self, x_btc: Array) -> Array:
        """Predict a batch of scenarios.

        Args:
            x_btc: scenarios, shape (batch, time, inputs), physical units, `inputs` order, hourly.

        Returns:
            Responses, shape (batch, time, outputs), physical units, `outputs` order.
        """

    def given(self, past: Scenario) -> Predictor:
        """Fix the past; the result predicts futures only, with the same answers as whole windows.

        Parameters are channels like any other: those of the past count in the past, and each future brings its own.
        """


class GivenPast:
    """The default `given`: puts the past before every future and cuts its answer off again.

    Serves EnergyPlus and the two-node building: the past is computed again with every batch of futures.
    """

    def __init__(self, predictor: Predictor, past: Scenario) -> None:
        """Raises ShapeError: the past has other inputs than the predictor, or the same in another order."""
        check_past(past, predictor.inputs)
        self.predictor = predictor
        self.past = past

    @property
    def inputs(self) -> Signature:
        """Channels of a scenario."""
        return self.predictor.inputs

    @property
    def outputs(self) -> Signature:
        """Channels of a response."""
        return self.predictor.outputs

    def predict(self, x_btc: Array) -> Array:
        """Predict futures, shape (batch, time, inputs) -> (batch, time, outputs)."""
        past_tc = self.past.values
        past_btc = np.broadcast_to(past_tc, (x_btc.shape[0], *past_tc.shape))
        return self.predictor.predict(np.concatenate([past_btc, x_btc], axis=1))[:, len(past_tc) :]

    def given(self, past: Scenario) -> Predictor:
        """Append `past` to the past already fixed."""
        return self.predictor.given(self.past.then(past))


def check_batch(x_btc: Array, inputs: Signature, what: str = "a batch of scenarios") -> None:
    """Raise ShapeError unless `x_btc` is (batch, time, inputs)."""
    if x_btc.ndim != 3 or x_btc.shape[2] != len(inputs):
        raise ShapeError(what=what, shape=x_btc.shape, wanted=f"(batch, time, {len(inputs)})")


def check_past(past: Scenario, inputs: Signature) -> None:
    """Raise ShapeError unless `past` has these inputs, in this order."""
    if past.inputs.names != inputs.names:
        raise ShapeError(
            what="the past", shape=past.values.shape, wanted=f"the {len(inputs)} inputs of the predictor, in their order"
        )
