"""Where measured.csv and week.csv come from: a hidden EnergyPlus office lives, and its sensors write down what they see.

    python examples/measure_a_building.py --seed 5 --out examples

measured.csv   hourly, UTC, stamps at the start of the hour, inside units (docs/reference/nomenclature.md), a column per variable;
               sensor noise, gaps (empty cells) and one sensor that says nothing
week.csv       the weather and the occupancy of the week after, which a forecast would bring

Needs EnergyPlus: pip install 'setwise[simulate]'.
"""

import argparse
from pathlib import Path

from building.description import load_building
from building.sun import BEAM_COLUMNS
from building.variables import Role
from proof.plants import draw_plant, measure


def main() -> None:
    """Draw the building, let it live, and write what was measured."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=5)
    options.add_argument("--out", type=Path, default=Path(__file__).parent)
    told = options.parse_args()

    building = load_building("medium_office")
    plant = draw_plant(building, number=0, seed=told.seed)  # its parameters stay hidden in plant.run
    truth = plant.live()
    measured = measure(plant, truth)
    measured[measured.index < plant.planned_from].to_csv(told.out / "measured.csv", index_label="time", float_format="%.5g")

    coming = [v.name for v in building.inputs.having(Role.WEATHER, Role.OCCUPANCY) if v.name not in BEAM_COLUMNS]
    week = truth.loc[truth.index >= plant.planned_from, coming]
    week.to_csv(told.out / "week.csv", index_label="time", float_format="%.5g")
    print(f"measured={told.out / 'measured.csv'} week={told.out / 'week.csv'} silent_sensor={plant.dead_sensor}")


if __name__ == "__main__":
    main()
