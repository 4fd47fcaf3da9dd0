"""Scenario: weather + occupancy + parameters + settings over some hours, in signature order; and batches of them.

Legend of shapes: b batch, t time, c channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.checks import check_values
from building.errors import IrregularTimeError, NotFiniteError, ShapeError
from building.variables import Role, Signature

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scenario:
    """What a Predictor is asked, for one building and one stretch of hours.

    Attributes:
        inputs: the channels.
        index: hourly UTC stamps, shape (time,).
        values: shape (time, inputs), physical units.
    """

    inputs: Signature
    index: pd.DatetimeIndex
    values: Array

    @staticmethod
    def from_frame(
        inputs: Signature, frame: pd.DataFrame, parameters: Mapping[str, float] | None = None, max_gap_h: float = 0
    ) -> Scenario:
        """Assemble a scenario from a frame of series and constant parameters.

        Args:
            inputs: the channels wanted.
            frame: hourly, UTC; a column per series input. Further columns are ignored.
            parameters: constants by name; they win over columns of the same name. Names that are no input are ignored.
            max_gap_h: gaps up to this length are bridged linearly.

        Raises:
            MissingColumnError, ShapeError, GapError, NotFiniteError, IrregularTimeError: see `checks.check_frame`.
        """
        parameters = dict(parameters or {})
        constants = {n: v for n, v in parameters.items() if n in inputs}
        series = Signature(*(v for v in inputs if v.name not in constants)) if constants else inputs
        values = np.empty((len(frame), len(inputs)))
        values[:, inputs.positions(series.names)] = check_values(frame, series, max_gap_h=max_gap_h)
        for name, value in constants.items():
            if not np.isfinite(value):
                raise NotFiniteError(what="the parameters", n_bad=1, column=name, where="every hour")
            values[:, inputs.position(name)] = value
        return Scenario(inputs, pd.DatetimeIndex(frame.index), values)

    def __len__(self) -> int:
        return len(self.index)

    def frame(self) -> pd.DataFrame:
        """Return the scenario as a frame with one column per input."""
        return pd.DataFrame(self.values, index=self.index, columns=list(self.inputs.names))

    def parameters(self) -> dict[str, float]:
        """Return the value of each PARAMETER input (constant over time: that of the first hour)."""
        return {v.name: float(self.values[0, self.inputs.position(v.name)]) for v in self.inputs.having(Role.PARAMETER)}

    def between(self, start: pd.Timestamp, end: pd.Timestamp) -> Scenario:
        """Return the hours with start <= stamp < end."""
        keep = (self.index >= start) & (self.index < end)
        return Scenario(self.inputs, self.index[keep], self.values[keep])

    def then(self, later: Scenario) -> Scenario:
        """Join a later scenario to this one.

        Raises:
            IrregularTimeError: `later` does not begin one hour after this ends.
            ShapeError: its inputs differ.
        """
        if later.inputs != self.inputs:
            raise ShapeError(what="the later scenario", shape=(len(later.inputs),), wanted=f"the same {len(self.inputs)} inputs")
        if len(self) and len(later) and later.index[0] - self.index[-1] != pd.Timedelta(hours=1):
            raise IrregularTimeError(
                what="the joined scenario", step_min=60, where=later.index[0], reason=f"the past ends at {self.index[-1]}"
            )
        return Scenario(
            self.inputs, pd.DatetimeIndex(self.index.append(later.index)), np.concatenate([self.values, later.values])
        )

    def batch(self, changes: Mapping[str, Array], n: int | None = None) -> Array:
        """Return scenarios that differ from this one only in some inputs.

        Args:
            changes: by input name, one value per member, shape (batch,), or one series per member, shape (batch, time).
            n: batch size; needed only when `changes` is empty.

        Returns:
            x_btc, shape (batch, time, inputs).

        Raises:
            UnknownNameError: a name that is no input. ShapeError: sizes that do not agree.
        """
        for name, value in changes.items():
            if np.ndim(value) not in (1, 2):
                raise ShapeError(what=f"the change of '{name}'", shape=np.shape(value), wanted="(batch,) or (batch, time)")
        sizes = {len(v) for v in changes.values()} | ({n} if n is not None else set())
        if len(sizes) != 1:
            raise ShapeError(what="the changes of a batch", shape=tuple(sorted(sizes)), wanted="one batch size")
        x_btc = np.repeat(self.values[None], sizes.pop(), axis=0)
        for name, value in changes.items():
            value = np.asarray(value, dtype=float)
            if value.ndim == 2 and value.shape[1] != len(self):
                raise ShapeError(what=f"the series of '{name}'", shape=value.shape, wanted=f"(batch, {len(self)})")
            x_btc[:, :, self.inputs.position(name)] = value if value.ndim == 2 else value[:, None]
        return x_btc
