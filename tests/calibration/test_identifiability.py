"""Spreads: right where the answer is known, wide where the data are silent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from building.description import Building
from calibration.calibrate import calibrate
from calibration.candidates import Candidates
from calibration.identifiability import PRIOR_SD, spreads
from calibration.linear import polish
from calibration.misfit import Misfit
from calibration.observation import observe
from calibration.search import Budget
from simulation.rc import RcPredictor

BUDGET = Budget(population=16, max_evaluations=320, max_restarts=0)


def test_a_parameter_that_nothing_depends_on_keeps_its_prior(predictor: RcPredictor, building: Building, plant: Any) -> None:
    night = plant.measured.assign(direct_normal_irradiance=0.0, diffuse_horizontal_irradiance=0.0)
    c = calibrate(predictor, night, building.parameter_space, seed=1, time_zone="UTC", budget=BUDGET)
    shgc = next(s for s in c.spreads if s.name == "window_shgc")
    assert shgc.state == "weak"
    assert shgc.sd_unit == pytest.approx(PRIOR_SD, rel=1e-3)
    assert any("window_shgc" in w for w in c.warnings)


def test_spreads_cover_the_truth_about_as_often_as_they_say(predictor: RcPredictor, building: Building, make_plant: Any) -> None:
    space = building.parameter_space
    z = []
    for seed in range(8):
        plant = make_plant(seed=20 + seed)
        seen = observe(predictor.inputs, predictor.outputs, plant.measured, space.defaults())
        candidates, misfit = Candidates(seen.scenario, space, seen.unmeasured, "UTC"), Misfit(seen, predictor.outputs)
        truth = space.to_unit([plant.truth[n] for n in space.names])
        # From the truth to the optimum beside it: the width is tested here, not the search.
        u, linear = polish(
            lambda u_bn, m=misfit, c=candidates: m.errors(predictor.predict(c.batch(u_bn))),
            lambda u_bn, m=misfit, c=candidates: m(predictor.predict(c.batch(u_bn))),
            misfit,
            truth,
        )
        z += [(u[i] - truth[i]) / s.sd_unit for i, s in enumerate(spreads(linear, misfit, space, u, seen.index[seen.fit_t]))]
    within = np.abs(np.array(z))
    assert 0.45 < (within < 1).mean() < 0.95
    assert (within < 3).mean() > 0.93


def test_intervals_stay_inside_the_bounds_and_hold_the_value(predictor: RcPredictor, building: Building, plant: Any) -> None:
    c = calibrate(predictor, plant.measured, building.parameter_space, seed=1, time_zone="UTC", budget=BUDGET)
    for s in c.spreads:
        p = building.parameter_space[s.name]
        assert p.low - 1e-9 <= s.low <= s.value <= s.high <= p.high + 1e-9
        assert 0 < s.sd_unit <= PRIOR_SD + 1e-9
