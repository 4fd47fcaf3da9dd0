"""How much was there to be had: the same search with the truth as its predictor, from the chosen plan on.

EnergyPlus is a Predictor, so `optim.search` runs on it unchanged. A few hundred simulations do not find the true optimum: what
comes out is the best plan known to be reachable, and `captured` is the chosen plan's share of its saving.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pandas as pd

from building.plan import Plan
from building.scenario import Scenario
from building.timeline import WARM_UP_H
from optim.choice import choose
from optim.outlook import Margins
from optim.search import search
from proof.plants import Plant
from simulation.energyplus import EnergyPlusPredictor

PLANS_PER_GENERATION = 20


def best_known_saving(
    plant: Plant, truth: pd.DataFrame, plan: Plan, baseline: str, evaluations: int, seed: int, n_workers: int | None = None
) -> float:
    """Search the planned week in EnergyPlus with the plant's true parameters and return the best saving found.

    Args:
        plant: the hidden building.
        truth: what happened under its own schedule (`Plant.live`).
        plan: the chosen plan; the search begins around it.
        baseline: which reference the saving is of.
        evaluations: simulations of a week of past and a week of plan, about 1.2 core-seconds each.
        seed: of the search.
        n_workers: engines at a time; all cores when None.

    Raises:
        FailedRunError: the simulator.
    """
    building = plant.building
    end = truth.index[-1] + pd.Timedelta(hours=1)
    scenario = Scenario.from_frame(building.inputs, truth)
    past = scenario.between(plant.planned_from - pd.Timedelta(hours=WARM_UP_H), plant.planned_from)
    future = scenario.between(plant.planned_from, end)
    with ThreadPoolExecutor(n_workers or os.cpu_count()) as pool:
        front = search(
            EnergyPlusPredictor(building, plant.run.weather, past.index[0], pool.map),
            building,
            past,
            future,
            seed=seed,
            n_plans=PLANS_PER_GENERATION,
            generations=max(1, evaluations // PLANS_PER_GENERATION),
            margins=Margins(temperature_k=0.0, co2_ppm=0.0),
            warm_start=plan,
        )
    return float(choose(front).meta["saving"][baseline])
