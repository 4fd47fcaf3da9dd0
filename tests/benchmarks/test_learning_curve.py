import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch", reason="torch comes with the extra 'train'")

from benchmarks.learning_curve import curve, draw, extrapolated, fitted, needed, predicted, said

ERROR = "zone_temperature_rmse_k"


def points(a: float, b: float, c: float, n: tuple[int, ...] = (500, 1000, 2000, 4000, 8000)) -> pd.DataFrame:
    return pd.DataFrame({"windows": n, ERROR: [a + b * (x / n[0]) ** -c for x in n]})


def test_the_law_that_made_the_points_is_found_again() -> None:
    made = points(0.12, 0.3, 0.6)
    law = fitted(made["windows"], made[ERROR])
    np.testing.assert_allclose(law, (0.12, 0.3, 0.6), rtol=1e-3)
    assert predicted(law, 16000, 500) == pytest.approx(0.12 + 0.3 * 32**-0.6, rel=1e-3)
    assert needed(law, predicted(law, 16000, 500), 500) == pytest.approx(16000, rel=1e-3)


def test_a_target_under_the_floor_is_out_of_reach() -> None:
    found = extrapolated("windows", points(0.25, 0.2, 1.0), target=0.20)
    assert found["needed"] == float("inf")
    assert "needed_windows=out_of_reach" in said("windows", found)


def test_a_noisy_curve_says_how_unsure_it_is() -> None:
    noisy = points(0.1, 0.3, 0.5)
    noisy[ERROR] *= [1.0, 1.03, 0.96, 1.02, 0.99]
    found = extrapolated("windows", noisy, target=0.15)
    low, high = found["at_4_times_range"]
    assert low < found["at_4_times"] < high
    low, high = found["needed_range"]
    assert low <= found["needed"] <= high and high > 1.1 * low


def test_two_points_make_no_law() -> None:
    assert said("steps", extrapolated("steps", pd.DataFrame({"steps": [1000, 2000], ERROR: [0.4, 0.3]}), 0.2)) == "steps_points=2"


def test_the_curve_along_one_axis_keeps_the_other_fixed() -> None:
    rows = pd.DataFrame(
        {
            "windows": [500, 1000, 2000, 2000, 2000],
            "steps": [3000, 3000, 3000, 1000, 8000],
            ERROR: [0.5, 0.4, 0.3, 0.45, 0.25],
        }
    )
    assert curve(rows, "windows", "steps")[ERROR].tolist() == [0.5, 0.4, 0.3]
    assert curve(rows, "steps", "windows")[ERROR].tolist() == [0.45, 0.3, 0.25]


def test_the_same_rows_draw_the_same_picture(tmp_path) -> None:
    rows = pd.concat(
        [points(0.1, 0.3, 0.5).assign(steps=3000), pd.DataFrame({"windows": [8000], "steps": [8000], ERROR: [0.15]})]
    )
    for name, target in (("one.svg", 0.2), ("two.svg", 0.2), ("other.svg", 0.3)):
        draw(rows, target, tmp_path / name)
    one, two, other = ((tmp_path / name).read_bytes() for name in ("one.svg", "two.svg", "other.svg"))
    assert one == two and one != other
