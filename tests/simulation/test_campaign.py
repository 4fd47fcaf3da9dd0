import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from building.description import Building
from building.errors import BadDatasetError, FailedRunError
from simulation import campaign as campaigns
from simulation.campaign import Campaign, DrawAndSimulate, cluster_map, draw, export, failures, local_map, run_campaign
from simulation.dataset import load_dataset, save_dataset
from simulation.sampling import HELD_OUT_DAYS

SMALL = Campaign("medium_office", n_runs=3, n_windows=1, seed=5)


def one_by_one(function, items):
    return map(function, items)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("campaign")
    with local_map(2) as spread:
        run_campaign(SMALL, folder, spread)
    return folder


def test_a_campaign_becomes_a_dataset_with_its_signature_and_origin(finished: Path, office: Building) -> None:
    export(finished)
    dataset = load_dataset(finished / "dataset")
    assert dataset.x_ntc.shape == (3, 840, len(office.inputs))
    assert dataset.y_ntc.shape == (3, 840, len(office.outputs))
    assert dataset.inputs == office.inputs
    assert np.isfinite(dataset.x_ntc).all() and np.isfinite(dataset.y_ntc).all()
    assert dataset.origin["windows"] == 3
    assert dataset.origin["core_hours"] > 0
    text = (finished / "dataset" / "CARD.md").read_text(encoding="utf-8")
    assert "NREL TMY Data Set (2008)" in text and "| infiltration | x | log | 0.2 to 3 |" in text


def test_windows_of_one_run_keep_the_parameters_and_change_the_plan(office: Building) -> None:
    drawn = draw(Campaign("medium_office", 4, 3, seed=2), office, 1)
    assert len(drawn.run.series) == 168 + 3 * 672
    assert set(drawn.run.parameters) == set(office.parameter_space.names)
    profiles = [drawn.run.series["heating_setpoint"].iloc[168 + 672 * w : 168 + 672 * (w + 1)].mean() for w in range(3)]
    assert len({round(p, 3) for p in profiles}) == 3


def test_no_training_window_starts_in_the_third_week_and_every_fresh_one_does(office: Building) -> None:
    def starts(campaign: Campaign) -> list[pd.Timestamp]:
        out = []
        for n in range(12):
            drawn = draw(campaign, office, n)
            local = drawn.run.series.index[0] + pd.Timedelta(
                days=7, hours=-9
            )  # 05:00-08:00 UTC is local midnight: same date 9 h later
            out += [local + pd.Timedelta(hours=9 + 672 * w) for w in range(campaign.n_windows)]
        return out

    training = starts(Campaign("medium_office", 12, 3, seed=3))
    assert not [s for s in training if s.day in HELD_OUT_DAYS]
    fresh = starts(Campaign("medium_office", 12, 1, seed=3, held_out=True))
    assert all(s.day in HELD_OUT_DAYS for s in fresh)


def test_held_out_climates_are_in_no_training_run(office: Building) -> None:
    training = {draw(Campaign("medium_office", 40, 1, seed=4), office, n).climate for n in range(40)}
    held_out = {
        draw(Campaign("medium_office", 4, 1, seed=4, held_out=True, climates="held-out"), office, n).climate for n in range(4)
    }
    assert held_out == {"usa_ok_oklahoma", "usa_nj_newark"}
    assert not training & held_out


def test_the_same_number_of_the_same_seed_is_the_same_run(office: Building) -> None:
    first, again = (draw(SMALL, office, 2) for _ in range(2))
    assert first.run.parameters == again.run.parameters
    pd.testing.assert_frame_equal(first.run.series, again.run.series)


def test_a_resumed_campaign_simulates_only_what_is_missing(finished: Path) -> None:
    (finished / "runs" / "00001.npz").unlink()
    asked: list[int] = []

    def spread(function, items):
        asked.extend(items)
        return map(function, items)

    seen: list[tuple[int, int, int]] = []
    run_campaign(SMALL, finished, spread, lambda done, total, failed, to_go: seen.append((done, total, failed)))
    assert asked == [1]
    assert seen == [(3, 3, 0)]


def test_another_campaign_does_not_mix_into_the_folder(finished: Path) -> None:
    with pytest.raises(BadDatasetError, match="holds another campaign"):
        run_campaign(Campaign("medium_office", n_runs=3, n_windows=1, seed=6), finished, one_by_one)


def test_a_failed_run_is_recorded_in_the_engines_own_words_and_the_rest_goes_on(tmp_path: Path, monkeypatch) -> None:
    real = campaigns.simulate

    def fails_once(building, run):
        if abs(run.parameters["infiltration"] - draw(SMALL, building, 1).run.parameters["infiltration"]) < 1e-12:
            raise FailedRunError(reason="code 1", engine="Severe CTF calculation convergence problem")
        return real(building, run)

    monkeypatch.setattr(campaigns, "simulate", fails_once)
    run_campaign(SMALL, tmp_path, one_by_one)
    (failed,) = failures(tmp_path)
    assert failed["number"] == 1
    assert "CTF calculation convergence" in failed["reason"]
    assert len(export(tmp_path)) == 2


@pytest.mark.faults
def test_kill_9_in_the_middle_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from pathlib import Path\n"
        "from simulation.campaign import *\n"
        "if __name__ == '__main__':\n"
        f"    run_campaign(Campaign('medium_office', 4, 1, seed=7), Path({str(tmp_path)!r}), lambda f, items: map(f, items))\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "runs").glob("*.npz")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*.npz")}
    assert 1 <= len(before) < 4
    run_campaign(Campaign("medium_office", 4, 1, seed=7), tmp_path, one_by_one)
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*.npz")}
    assert len(after) == 4
    assert all(after[name] == stamp for name, stamp in before.items())


def test_a_dask_cluster_gives_the_same_runs(tmp_path: Path, finished: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="dask comes with the extra 'cluster'")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        with cluster_map(cluster.scheduler_address) as spread:
            run_campaign(SMALL, tmp_path, spread)
    for path in sorted((finished / "runs").glob("*.npz")):
        np.testing.assert_array_equal(np.load(path)["values"], np.load(tmp_path / "runs" / path.name)["values"])


def test_an_absent_cluster_is_said_at_once() -> None:
    pytest.importorskip("distributed")
    with pytest.raises(OSError), cluster_map("tcp://127.0.0.1:1") as spread:
        list(spread(DrawAndSimulate(SMALL), [0]))


def test_a_folder_without_manifest_or_with_other_arrays_is_no_dataset(tmp_path: Path, finished: Path) -> None:
    with pytest.raises(BadDatasetError, match="no manifest"):
        load_dataset(tmp_path)
    save_dataset(export(finished), tmp_path)
    np.save(tmp_path / "y.npy", np.zeros((3, 840, 2), dtype=np.float32))
    with pytest.raises(BadDatasetError, match="do not fit the manifest"):
        load_dataset(tmp_path)


def test_a_folder_without_a_campaign_exports_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadDatasetError, match="no campaign was begun"):
        export(tmp_path)


def test_a_campaign_without_a_finished_run_exports_nothing(tmp_path: Path) -> None:
    (tmp_path / "campaign.json").write_text(json.dumps({"building": "medium_office", "n_runs": 1}))
    with pytest.raises(BadDatasetError, match="no finished run"):
        export(tmp_path)


def test_a_line_that_a_kill_cut_short_hides_no_other_failure(tmp_path: Path, monkeypatch) -> None:
    def fails(building, run):
        raise FailedRunError(reason="code 1", engine="Severe")

    monkeypatch.setattr(campaigns, "simulate", fails)
    (tmp_path / "failures.jsonl").write_text('{"number": 2, "clim')
    run_campaign(SMALL, tmp_path, one_by_one)
    assert [f["number"] for f in failures(tmp_path)] == [0, 1, 2]
