"""Present: what a forecast needs of a calibrated building, without the libraries that calibrated it.

past, correct = present(predictor, calibration, measured, horizon, building.site.time_zone)
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.errors import TooFewDataError
from building.predictor import Predictor
from building.scenario import Scenario
from building.timeline import WARM_UP_H
from building.variables import Signature
from calibration.observation import fill_inputs
from calibration.report import Calibration
from calibration.residual import Correction, correction


def present(
    predictor: Predictor,
    calibration: Calibration,
    measured: pd.DataFrame,
    horizon: pd.DatetimeIndex,
    time_zone: str,
    warm_up_h: int = WARM_UP_H,
    errors_h: int = 168,
    max_gap_h: int = 6,
) -> tuple[Scenario, Correction]:
    """Return what a forecast needs of the present: the past with calibrated parameters, and the correction by the last errors.

    Args:
        predictor: the calibrated predictor.
        calibration: its calibration.
        measured: hourly, UTC, ending where the horizon begins; columns as for `calibrate`.
        horizon: UTC stamps of the forecast.
        time_zone: IANA name of the building's clock.
        warm_up_h: past the predictor needs before an error means something; the scenario returned has at least this length.
        errors_h: hours of errors used beyond the warm-up; fewer where the frame is shorter.
        max_gap_h: inputs are bridged over any gap, but errors in a longer one, and a day after, do not count.

    Raises:
        TooFewDataError: less than the warm-up; also see `past_scenario`.
        MissingColumnError: see `observation.fill_inputs`.
    """
    recent = measured.iloc[-(warm_up_h + errors_h) :]
    if len(recent) < warm_up_h:
        hint = "The predictor needs this past; wait for it."
        raise TooFewDataError(what="the recent past", found=float(len(recent)), wanted=float(warm_up_h), hint=hint)
    past, trusted_t = past_scenario(predictor.inputs, calibration, recent, time_zone, max_gap_h)
    predicted = pd.DataFrame(predictor.predict(past.values[None])[0], index=past.index, columns=list(predictor.outputs.names))
    names = [n for n in predictor.outputs.names if n in recent and n not in calibration.dropped]
    errors = recent[names].astype(float) - predicted[names]
    errors = errors.where(np.isfinite(errors) & trusted_t[:, None]).iloc[warm_up_h:]
    return past, correction(calibration.residual, errors, predictor.outputs, horizon)


def past_scenario(
    inputs: Signature, calibration: Calibration, measured: pd.DataFrame, time_zone: str, max_gap_h: int = 6
) -> tuple[Scenario, NDArray[np.bool_]]:
    """Return measured hours as a scenario with calibrated parameters, unmeasured series from the fitted profile; trusted hours.

    Raises:
        MissingColumnError: see `observation.fill_inputs`.
        TooFewDataError: a setting or occupancy series that neither was measured now nor was fitted then.
    """
    if calibration.profile is not None:
        fitted = calibration.profile.unroll(pd.DatetimeIndex(measured.index), time_zone)
        measured = measured.assign(**{str(n): measured[n].fillna(fitted[n]) if n in measured else fitted[n] for n in fitted})
    past, unmeasured, trusted_t = fill_inputs(inputs, measured, calibration.parameters, max_gap_h)
    if len(unmeasured):
        raise TooFewDataError(
            what=f"the recent past of {', '.join(unmeasured.names)}",
            found=float(measured[[n for n in unmeasured.names if n in measured]].notna().all(axis=1).sum()),
            wanted=len(measured) / 2,
            hint="It was measured when the building was calibrated. Bring the sensor back, or calibrate again without it.",
        )
    return past, trusted_t
