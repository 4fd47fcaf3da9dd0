import numpy as np
import pandas as pd

from building.units import FACTOR, POWER, TEMPERATURE
from building.variables import Role, Signature, Variable
from simulation.card import card
from simulation.dataset import Dataset

INPUTS = Signature(
    Variable("outdoor_air_temperature", TEMPERATURE, Role.WEATHER, -60, 60),
    Variable("infiltration", FACTOR, Role.PARAMETER, 0.2, 3),
    Variable("internal_mass", FACTOR, Role.PARAMETER, 0.2, 4),
    Variable("heating_setpoint", TEMPERATURE, Role.SETTING, 14, 24),
)
OUTPUTS = Signature(
    Variable("core_air_temperature", TEMPERATURE, Role.INDOOR, -10, 60, zone="core"),
    Variable("heating_power", POWER, Role.CONSUMPTION, 0, 1e5),
)
ASKED = {"building": "toy", "n_runs": 12, "n_windows": 2, "seed": 7, "held_out": False, "climates": "training"}


def toy(**origin: object) -> Dataset:
    """Ten runs of two windows of 24 + 48 h: run r has infiltration r + 0.5 and heats in a quarter of the judged hours."""
    n, hours = 20, 72
    x, y = np.zeros((n, hours, 4), dtype=np.float32), np.zeros((n, hours, 2), dtype=np.float32)
    run = np.arange(n) // 2
    x[:, :24, 0], x[:, 24:, 0] = -40, 12.0
    x[:, 36:48, 0] = -2.0
    x[..., 1] = run[:, None] + 0.5
    x[..., 2] = 1.0
    x[..., 3] = 20.0
    y[..., 0] = 21.0
    y[:, 24:36, 1] = 4000.0
    y[:, :24, 1] = 9e9  # warm-up: must count nowhere
    windows = pd.DataFrame(
        {
            "run": run,
            "climate": ["usa_toy", "usa_game"] * 10,
            "start": pd.date_range("2021-01-04", periods=n, freq="28D", tz="UTC"),
            "kind": ["schedule"] * 15 + ["odd"] * 5,
            "is_morphed": run < 4,
            "split": ["validation"] * 2 + ["train"] * 18,
        }
    )
    facts = {"building": "toy", "runs": 10, "campaign": ASKED, "core_hours": 0.123, "failed_runs": 0, "failures": []}
    return Dataset(INPUTS, OUTPUTS, x, y, windows, 24, facts | origin)


def test_the_card_counts_what_is_there_and_gives_the_command_that_makes_it_again() -> None:
    text = card(toy())
    assert "20 windows of 48 h" in text and "10 of 12" in text
    assert "kind of settings: odd 5, schedule 15" in text
    assert "split: train 18, validation 2" in text
    assert "climate: usa_game 10, usa_toy 10" in text
    assert "weather morphed: no 12, yes 8" in text
    assert "`setwise simulate toy --runs 12 --windows 2 --seed 7 --out FOLDER`" in text
    assert "core-hours of simulation: 0.123" in text
    assert "Exported at 10 finished runs" in text and "Exported at" not in card(toy(runs=12))


def test_warm_up_hours_count_nowhere() -> None:
    text = card(toy())
    assert "| heating_power | W | 0 | 1000 | 4000 | 75.0 % |" in text
    assert "| -5 to 0 | 25.0 % |" in text and "| 10 to 15 | 75.0 % |" in text and "| -60 to -15 | 0.0 % |" in text


def test_a_hole_in_a_parameter_range_is_seen() -> None:
    whole = card(toy(parameter_ranges={"infiltration": [0.0, 10.0, "linear"]}))
    assert "| infiltration | x | linear | 0 to 10 | 0.5 to 9.5 | 1 |" in whole
    holed = card(toy(parameter_ranges={"infiltration": [0.0, 20.0, "linear"]}))
    assert "| infiltration | x | linear | 0 to 20 | 0.5 to 9.5 | 0 |" in holed
    assert "Of the 100 cells of two parameters, 10% hold a run" in whole  # one of them never varies


def test_failures_stand_in_the_engines_own_words_and_cannot_break_the_table() -> None:
    text = card(toy(failed_runs=30, failures=[{"number": 3, "climate": "usa_toy", "reason": "Severe | a\nb"}]))
    assert "30 runs failed and are not in the data; the first 1:" in text
    assert "| 3 | usa_toy | Severe / a b |" in text
    assert "No run failed." in card(toy())


def test_a_dataset_that_knows_little_of_its_origin_still_gets_a_card() -> None:
    dataset = toy()
    bare = Dataset(INPUTS, OUTPUTS, dataset.x_ntc, dataset.y_ntc, dataset.windows.drop(columns="is_morphed"), 24, {})
    text = card(bare)
    assert "a building without a name" in text and "make it again" not in text and "| heating_setpoint |" in text
