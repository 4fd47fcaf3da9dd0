"""Search the coming week's settings with a calibrated metamodel, choose one plan of the front, and write it.

    python examples/plan_a_week.py --calibration calibration.json --out plan.csv

`setwise optimise` does the same from the command line, and the service every night. First: calibrate_from_csv.py.
"""

import argparse
import json
from pathlib import Path

from building.description import load_building
from building.scenario import Scenario
from calibration.present import present
from calibration.report import Calibration
from models.runtime.bundle import load_bundle
from models.runtime.session import OnnxPredictor
from optim.choice import choose
from optim.search import search
from setwise import read_frame

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Past, future, search, choice."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calibration", type=Path, default=Path("calibration.json"))
    options.add_argument("--generations", type=int, default=70)
    options.add_argument("--out", type=Path, default=Path("plan.csv"))
    told = options.parse_args()
    predictor = OnnxPredictor(load_bundle(ROOT / "bundles" / "medium_office"))
    building = load_building("medium_office")
    calibration = Calibration.from_dict(json.loads(told.calibration.read_text(encoding="utf-8")))

    measured = building.with_sun(read_frame(ROOT / "examples" / "measured.csv"))
    week = building.with_sun(read_frame(ROOT / "examples" / "week.csv"))

    # The past: a building remembers about a week, and the last errors of the metamodel correct its next answers.
    past, correct = present(predictor, calibration, measured, week.index, building.site.time_zone)

    # The future: a forecast, and the settings of last week once more, which is what every plan must beat.
    own = measured[list(building.settings.names)].iloc[-len(week) :].set_axis(week.index)
    future = Scenario.from_frame(predictor.inputs, week.join(own), calibration.parameters)

    # NSGA-II: each generation of plans is one question to the metamodel. "No worse" keeps comfort, air and moisture, then saves.
    front = search(predictor, building, past, future, seed=1, generations=told.generations, correct=correct)
    plan = choose(front, "no_worse")
    plan.frame.to_csv(told.out, index_label="time", float_format="%.3f")
    print(plan.meta["reason"])
    for name, values in {**plan.meta["references"], "plan": plan.meta["predicted"]}.items():
        print(f"{name:>12}: " + ", ".join(f"{k} {v:.1f}" for k, v in values.items()))
    print(f"saving={plan.meta['saving'][front.baseline]:.3f} plans={len(front)} plan={told.out}")


if __name__ == "__main__":
    main()
