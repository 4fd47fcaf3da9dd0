"""Fit the shipped metamodel to a measured CSV, and see whether the fit may be trusted.

    python examples/calibrate_from_csv.py --measured examples/measured.csv --out calibration.json

`setwise calibrate` does the same from the command line.
"""

import argparse
import json
from pathlib import Path

from building.description import load_building
from calibration.calibrate import calibrate
from calibration.report import text_report
from calibration.search import Budget
from models.runtime.bundle import load_bundle
from models.runtime.session import OnnxPredictor
from setwise import read_frame

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Read, fit, judge, keep."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--measured", type=Path, default=ROOT / "examples" / "measured.csv")
    options.add_argument("--evaluations", type=int, default=6000, help="simulated four-week windows the search may ask for")
    options.add_argument("--out", type=Path, default=Path("calibration.json"))
    told = options.parse_args()

    # 1. The bundle says which building it answers for; the building says what may be fitted.
    bundle = load_bundle(ROOT / "bundles" / "medium_office")
    building = load_building(bundle.building)

    # 2. Hourly readings under the building's own names. Gaps may stay. Nobody measures the beam on a facade: it is computed.
    measured = building.with_sun(read_frame(told.measured))

    # 3. CMA-ES asks the metamodel about a whole generation of candidate buildings at a time. Same seed, same answer.
    calibration = calibrate(
        OnnxPredictor(bundle),
        measured,
        building.parameter_space,
        seed=1,
        time_zone=building.site.time_zone,
        budget=Budget(max_evaluations=told.evaluations),
    )

    # 4. The verdict is taken on hours the fit has not seen (ASHRAE Guideline 14). Refused means: do not plan with it.
    print(text_report(calibration))
    told.out.write_text(json.dumps(calibration.to_dict(), indent=1), encoding="utf-8")
    print(f"is_accepted={int(calibration.is_accepted)} calibration={told.out}")


if __name__ == "__main__":
    main()
