"""`setwise evaluate` on fresh runs that a formula stands in for: what it says, what it counts, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from formula import Answering, Error, failure, outcome, warmer

import setwise
from building.description import Building, load_building
from building.errors import BadDatasetError, BadDescriptionError, NotFiniteError
from proof import fresh
from simulation.campaign import DrawAndSimulate, Outcome

BUNDLE = Path("bundles/medium_office")
A_TENTH_WARMER = warmer(0.1)

Stage = Callable[..., None]


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch, office: Building) -> Stage:
    """Give a function that puts a formula in the place of EnergyPlus, and an answer with a known error in that of the bundle."""

    def stage(error: Error = A_TENTH_WARMER, failing: Sequence[int] = (), held_out_colder_by_k: float = 0.0) -> None:
        def run(work: DrawAndSimulate, number: int) -> Outcome:
            if number in failing:
                return failure(number)
            done = outcome(office, number, work.campaign.n_windows)
            if work.campaign.climates == "held-out":
                zones = [len(office.inputs) + office.outputs.position(f"{z.name}_air_temperature") for z in office.zones]
                done.values[:, zones] -= held_out_colder_by_k
            return done

        @contextmanager
        def local_map(n_workers: int | None) -> Iterator[object]:
            yield lambda work, numbers: (run(work, n) for n in numbers)

        monkeypatch.setattr(fresh, "local_map", local_map)
        monkeypatch.setattr(fresh, "load_bundle", lambda path: SimpleNamespace(building="medium_office", facts={}))
        monkeypatch.setattr(fresh, "OnnxPredictor", lambda bundle: Answering(office, error))

    return stage


def test_figures_chain_and_speed_stand_on_the_last_line(staged: Stage) -> None:
    staged()
    facts = fresh.evaluate(BUNDLE, runs=3, chains=2).facts()
    assert facts["zone_temperature_rmse_k"] == pytest.approx(0.1, abs=1e-4)
    assert (facts["chained_ratio"], facts["chained_gap"]) == pytest.approx((1, 0), abs=1e-3)
    assert (facts["runs"], facts["failed_runs"]) == (3, 0)
    assert facts["speedup"] > 1
    assert "held_out_ratio" not in facts


def test_held_out_climates_are_compared_with_the_training_climates_of_the_same_seed(staged: Stage) -> None:
    staged(held_out_colder_by_k=0.1)
    found = fresh.evaluate(BUNDLE, runs=2, climates="held-out")
    assert found.facts()["zone_temperature_rmse_k"] == pytest.approx(0.2, abs=1e-4)
    assert found.facts()["held_out_ratio"] == pytest.approx(2, rel=1e-3)
    assert not found.is_good
    keys = [key for key, *_ in found.tables()]
    assert {"bars_in_training_climates", "held_out_over_training"} <= set(keys)
    rows = {row[0]: row for row in found.tables()[0][2]}
    assert rows["zone temperature RMSE [K]"][2:] == (pytest.approx(0.1, abs=1e-4), "met")


def test_a_short_answer_fits_a_page_and_a_long_one_has_climates_hours_zones_and_outputs(staged: Stage) -> None:
    staged()
    found = fresh.evaluate(BUNDLE, runs=2)
    short, long = ({key: rows for key, _, rows in found.tables(everything)} for everything in (False, True))
    assert set(long) - set(short) == {"by_climate", "by_hour_of_day", "zones", "outputs"}
    assert sum(len(rows) for rows in short.values()) < 50
    assert len(long["zones"]) == 15


def test_runs_that_fail_are_counted_by_climate_and_reason(staged: Stage) -> None:
    staged(failing=[1])
    seen: list[tuple[object, ...]] = []
    found = fresh.evaluate(BUNDLE, runs=3, chains=2, progress=lambda *told: seen.append(told))
    failures = next(rows for key, _, rows in found.tables(False) if key == "failures")
    assert failures == [("usa_co_denver", 2, "the simulation failed (run 1)")]
    assert (found.facts()["runs"], found.facts()["failed_runs"]) == (2, 2)
    assert seen[-1] == (5, 5, "2 failed")


def test_when_no_fresh_run_succeeds_the_first_failure_is_told(staged: Stage) -> None:
    staged(failing=range(3))
    with pytest.raises(BadDatasetError, match=r"no fresh run succeeded.*\(run 0\)"):
        fresh.evaluate(BUNDLE, runs=3)


def test_a_bundle_that_answers_what_is_no_number_is_refused(staged: Stage) -> None:
    staged(lambda y: y * np.nan)
    with pytest.raises(NotFiniteError, match="medium_office"):
        fresh.evaluate(BUNDLE, runs=1)


def test_a_building_without_evaluation_toml_is_refused_before_anything_is_simulated(
    staged: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged()
    monkeypatch.setattr(fresh, "load_building", lambda name: load_building("two_node"))
    monkeypatch.setattr(fresh, "local_map", None)
    with pytest.raises(
        BadDescriptionError, match=r"two_node/evaluation.toml: there is no such file.*fresh runs are drawn from it"
    ):
        fresh.evaluate(BUNDLE, runs=1)


def test_strict_ends_with_one_when_a_bar_is_not_met(staged: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    staged(warmer(0.3))
    arguments = ["evaluate", str(BUNDLE), "--runs", "1", "--chain", "0", "--quiet"]
    assert setwise.main(arguments) == 0
    assert "NOT MET" in capsys.readouterr().out
    assert setwise.main([*arguments, "--strict"]) == 1
    staged(warmer(0.1))
    assert setwise.main([*arguments, "--strict"]) == 0


def test_json_has_every_table_and_every_figure_by_its_full_name(staged: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    staged()
    assert setwise.main(["evaluate", str(BUNDLE), "--runs", "2", "--chain", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["apart"]["hour of day"]["06-07"]["temperature_rmse_k"] == pytest.approx(0.1, abs=1e-4)
    assert {"bars", "energy", "zones", "outputs", "by_climate", "chained_windows", "exact_zeros", "restart_hours"} <= set(said)
    assert said["bars"][0] == {
        "bar": "zone temperature RMSE [K]",
        "limit": "<= 0.2",
        "found": pytest.approx(0.1, abs=1e-4),
        "verdict": "met",
    }


def test_no_printed_table_is_wider_than_120_columns(staged: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    staged()
    assert setwise.main(["evaluate", str(BUNDLE), "--runs", "2", "--chain", "1", "--details", "--quiet"]) == 0
    *tables, last = capsys.readouterr().out.splitlines()
    assert max(len(line.rstrip()) for line in tables) <= 120
    assert last.startswith("zone_temperature_rmse_k=")


def test_a_report_is_one_file_with_charts_and_all_tables(staged: Stage, tmp_path: Path) -> None:
    staged()
    arguments = ["evaluate", str(BUNDLE), "--runs", "2", "--chain", "1", "--quiet", "--report", str(tmp_path / "seen.html")]
    assert setwise.main(arguments) == 0
    text = (tmp_path / "seen.html").read_text(encoding="utf-8")
    assert text.count("<svg") == 5
    for words in ("The worst run", "usa_il_chicago", "exact zeros", "by hour of day", "core_mid", "28-day totals"):
        assert words in text
    assert "http-equiv" not in text
    assert "<script" not in text


def test_a_report_into_a_folder_that_is_not_there_is_refused_before_simulating(
    staged: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert setwise.main(["evaluate", str(BUNDLE), "--report", str(tmp_path / "nowhere" / "seen.html")]) == 2
    assert "nowhere: no such file or directory" in capsys.readouterr().err
