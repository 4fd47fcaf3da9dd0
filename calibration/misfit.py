"""Misfit: how far a batch of predictions lies from what was measured; one number per candidate.

For each channel the errors are divided by what a good model may miss (sensor noise and model floor), made robust with Huber's
loss and averaged over its good hours; channels of a kind (temperatures, CO2, humidity, powers) share one vote, and the kinds
are averaged. So fifteen thermometers do not outvote one meter, a gap weighs nothing, and a misfit of 1 means "one sigma off
everywhere".

Legend of shapes: b batch, t time, o output, c measured channel.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from building.variables import Signature
from calibration.observation import Observation

Array = NDArray[np.float64]

HUBER_DELTA = 2.0
"""Errors beyond this many sigma count linearly (Huber 1964, Ann. Math. Stat. 35): a door left open is no reason to bend the
walls."""


def huber(r: Array, delta: float = HUBER_DELTA) -> Array:
    """Return Huber's loss scaled so that small errors count r^2: r^2 for |r| <= delta, else delta (2 |r| - delta)."""
    size = np.abs(r)
    inside = np.minimum(size, delta)
    return np.asarray(inside * (2 * size - inside))


class Misfit:
    """The misfit of predictions to one observation, on its fit hours."""

    def __init__(self, observation: Observation, outputs: Signature) -> None:
        self.rows = np.flatnonzero(observation.fit_t)
        self.columns = np.array(outputs.positions(observation.channels.names))
        measured = observation.measured_tc[self.rows]
        self.is_good_tc = np.isfinite(measured)
        self.measured_tc = np.where(self.is_good_tc, measured, 0.0)
        self.sigma_tc = observation.sigma_tc[self.rows]
        self.noise_tc = observation.noise_tc[self.rows]
        kinds = [v.quantity.name for v in observation.channels]
        members = Counter(kinds)
        votes = np.array([1 / (len(members) * members[k]) for k in kinds])
        n_good = self.is_good_tc.sum(axis=0)
        self.weight_tc = self.is_good_tc * (votes / np.maximum(n_good, 1))
        self._per_sigma_tc = self.is_good_tc / self.sigma_tc

    def errors(self, y_bto: Array) -> Array:
        """Return (predicted - measured) / sigma on the fit hours, zero in gaps, shape (batch, fit hours, channels)."""
        y_btc = y_bto[:, self.rows[:, None], self.columns[None, :]]
        return np.asarray((y_btc - self.measured_tc) * self._per_sigma_tc)

    def __call__(self, y_bto: Array) -> Array:
        """Return the misfit of each member, shape (batch, time, outputs) -> (batch,); not a number becomes infinity."""
        loss = np.einsum("btc,tc->b", huber(self.errors(y_bto)), self.weight_tc)
        return np.where(np.isfinite(loss), loss, np.inf)
