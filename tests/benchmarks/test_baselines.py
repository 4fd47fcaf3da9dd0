"""Rivals: each learns, answers the same through its graph, and the verdict follows from the rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch", reason="torch comes with the extra 'train'")

import torch

from benchmarks import baselines
from benchmarks.baselines import OURS, RIVALS, judged, line, main, markdown, summary, verdict
from benchmarks.rivals.cohen import WINDOW_H, Attention, Cohen, CohenPublished, beyond
from benchmarks.rivals.lagged import lagged, of_the_hour
from benchmarks.rivals.recurrent import ConvGru, Gru
from building.units import CO2, FACTOR, POWER, SHARE, TEMPERATURE
from building.variables import Role, Signature, Variable
from models.network import NetworkConfig
from models.training import TrainingConfig
from simulation.dataset import Dataset, save_dataset

torch.set_num_threads(1)

INPUTS = Signature(
    Variable("outdoor_air_temperature", TEMPERATURE, Role.WEATHER, -30, 50),
    Variable("occupancy_share", SHARE, Role.OCCUPANCY, 0, 1),
    Variable("infiltration", FACTOR, Role.PARAMETER, 0.2, 3),
    Variable("system_on", SHARE, Role.SETTING, 0, 1),
)
OUTPUTS = Signature(
    Variable("core_air_temperature", TEMPERATURE, Role.INDOOR, -10, 60, zone="core"),
    Variable("core_co2", CO2, Role.INDOOR, 300, 20000, zone="core"),
    Variable("gas_coil_heat", POWER, Role.CONSUMPTION, 0, 1e5),
)
HOURS = 96


@pytest.fixture(scope="module")
def office() -> Dataset:
    """48 windows of 24 + 72 h of one room with a memory of hours, 12 of them for validation."""
    rng = np.random.default_rng(3)
    hour = np.arange(HOURS)
    x = np.empty((48, HOURS, 4))
    x[..., 0] = rng.uniform(-5, 15, (48, 1)) + 5 * np.sin(2 * np.pi * hour / 24)
    x[..., 1] = (hour % 24 >= 8) & (hour % 24 < 18)
    x[..., 2] = rng.uniform(0.2, 3, (48, 1))
    x[..., 3] = (hour % 24 >= 6) & (hour % 24 < 19)
    y = np.empty((48, HOURS, 3))
    inside, co2 = np.full(48, 18.0), np.full(48, 420.0)
    for t in range(HOURS):
        heat = x[:, t, 3] * np.clip(300 * (21 - inside), 0, 6000)
        inside = inside + (heat - 120 * (1 + x[:, t, 2]) * (inside - x[:, t, 0])) / 6000
        co2 = co2 + 150 * x[:, t, 1] - 0.2 * (co2 - 420)
        y[:, t] = np.stack([inside, co2, heat], axis=1)
    windows = pd.DataFrame(
        {
            "run": range(48),
            "climate": "toy",
            "start": pd.date_range("2021-01-04", periods=48, freq="7D", tz="UTC"),
            "kind": "schedule",
            "split": ["train"] * 36 + ["validation"] * 12,
        }
    )
    return Dataset(INPUTS, OUTPUTS, x.astype(np.float32), y.astype(np.float32), windows, 24, {})


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings and timings of a moment."""
    shape = NetworkConfig(d_model=16, n_heads=(2,), n_ffn=(16,), head_width=4, n_memories=2, memory_width=4, n_products=4)
    config = TrainingConfig(network=shape, crop_h=72, burn_in_h=24)
    monkeypatch.setattr(baselines, "TrainingConfig", lambda: config)
    monkeypatch.setattr(baselines, "WINDOW_H", 60)
    monkeypatch.setattr(baselines, "cpu_ms", lambda call: (call(), 1.0)[1])


def silent(_: str) -> None:
    """Report nothing."""


# Two million weights take a core-second a step: not for every run of the tests.
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n.startswith("cohen") else n for n in RIVALS])
def test_every_rival_learns_and_its_graph_answers_as_torch_does(name: str, office: Dataset) -> None:
    if name == "trees":
        pytest.importorskip("lightgbm")
    rival, held = RIVALS[name], office.where((office.windows["split"] == "validation").to_numpy())
    value = 600 if name == "trees" else rival.choices[0]
    trained = rival.train(office, 30.0 if name.startswith("cohen") else 2.0, 1, value, silent)
    after = judged(trained, held, 1)["nrmse"]
    assert after < (1.2 if name == "cohen_published" else 0.7)  # 1 is knowing the mean
    assert trained.gap <= baselines.GAP_LIMIT
    one, *others = (way(office.x_ntc[:3]) for way in trained.ways)
    assert one.shape == (3, HOURS, 3)
    for other in others:
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-2)


def test_a_graph_that_answers_otherwise_than_torch_is_refused(office: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "GAP_LIMIT", -1.0)
    with pytest.raises(ArithmeticError, match="differ by"):
        RIVALS["gru"].train(office, 1e-3, 1, 1e-3, silent)


@pytest.mark.parametrize(("kind", "is_causal"), [(Gru, True), (ConvGru, True), (Cohen, False)])
def test_the_published_window_looks_ahead_and_the_recurrent_rivals_do_not(kind: type[Gru], is_causal: bool) -> None:
    torch.manual_seed(0)
    network = kind(INPUTS, OUTPUTS).eval()
    x = torch.randn(1, 50, 4)
    later = x.clone()
    later[:, 30:] += 1
    with torch.no_grad():
        same = torch.allclose(network(x)[:, :30], network(later)[:, :30], atol=1e-6)
    assert same == is_causal


def test_attention_in_blocks_equals_the_full_masked_matrix() -> None:
    torch.manual_seed(0)
    attention, t = Attention().eval(), 3 * WINDOW_H
    x = torch.randn(2, t, 64)
    outside = beyond(3, t)
    q = attention.inwards(x).reshape(2, t, 8, 8).transpose(1, 2)
    k, v = (s.reshape(2, t, 8, 8).transpose(1, 2) for s in attention.other_inwards(x).chunk(2, dim=-1))
    lag = (torch.arange(t)[:, None] - torch.arange(t)[None, :]).abs()
    full = (q @ k.transpose(-1, -2) * 8**-0.5).masked_fill(lag > WINDOW_H, -torch.inf).softmax(dim=-1) @ v
    expected = attention.outwards(full.transpose(1, 2).reshape(2, t, 64))
    assert torch.allclose(attention(x, x, outside), expected, atol=1e-5)


def test_hours_beyond_the_end_of_a_window_do_not_count() -> None:
    torch.manual_seed(0)
    attention, t = Attention().eval(), 41  # 3 blocks and 5 hours
    x = torch.randn(1, 48, 64)
    other = x.clone()
    other[:, t:] = 99
    outside = beyond(4, t)
    assert torch.equal(attention(x, x, outside)[:, :t], attention(other, other, outside)[:, :t])
    assert not torch.allclose(attention(x, x, beyond(4, 48))[:, :t], attention(other, other, beyond(4, 48))[:, :t])


def test_the_published_head_stays_between_least_and_greatest(office: Dataset) -> None:
    network = CohenPublished(office.inputs, office.outputs)
    network.fit_range(torch.from_numpy(office.y_ntc))
    answer = network(torch.from_numpy(office.x_ntc[:2])).detach()
    assert (answer >= network.low).all() and (answer <= network.high).all()


def test_published_loss_by_hand() -> None:
    network = CohenPublished(INPUTS, OUTPUTS)
    network.fit_range(torch.tensor([[[0.0, 0.0, 0.0], [10.0, 100.0, 1000.0]]]))
    truth = torch.tensor([[[5.0, 50.0, 700.0]]])
    # sigmoid(0) = 0.5: temperature right, CO2 right, heat 0.2 off.
    assert float(network.loss(torch.zeros(1, 1, 3), truth)) == pytest.approx(0.3 * np.log1p(0.2**2 / 2), rel=1e-5)


def test_lagged_features_by_hand() -> None:
    x = np.arange(200, dtype=np.float32)[None, :, None] * np.ones(4, dtype=np.float32)
    found = lagged(x, INPUTS)
    moving = 3  # weather, occupancy, setting; the parameter has no past
    assert found.shape == (1, 200, 4 + moving * (6 + 3))
    assert found[0, 100, 4] == 99 and found[0, 100, 4 + 5 * moving] == 76  # one and 24 hours before
    assert found[0, 100, -3 * moving] == np.mean(np.arange(77, 101))  # the last 24 hours, this one included
    assert found[0, 3, 4 + 5 * moving] == 0 and found[0, 3, -1] == 1.5  # no past: the first hour, and the hours there are
    assert of_the_hour(x, INPUTS) is x


def row(nrmse: float, kelvin: float, ms: float) -> dict[str, float]:
    return {"nrmse": nrmse, "zone_temperature_rmse_k": kelvin, "ms_per_window": ms}


def test_beaten_when_ours_is_at_or_below_in_everything() -> None:
    table = {OURS: row(0.2, 0.3, 2.0), "tie": row(0.2, 0.3, 2.0), "worse": row(0.5, 0.9, 9.0)}
    found = verdict(table)
    assert found == {"beaten": True, "not_beaten": {}, "better_and_no_slower": []}
    assert line(found, table).endswith("not_beaten=none better_and_no_slower=none beaten=true")


def test_one_better_figure_of_one_rival_is_enough_for_not_beaten() -> None:
    table = {OURS: row(0.2, 0.3, 2.0), "quick": row(0.9, 0.9, 0.1), "exact": row(0.1, 0.29, 9.0), "worse": row(0.5, 0.9, 9.0)}
    found = verdict(table)
    assert not found["beaten"]
    assert found["not_beaten"] == {"quick": ["ms_per_window"], "exact": ["nrmse", "zone_temperature_rmse_k"]}
    assert found["better_and_no_slower"] == []
    assert "not_beaten=quick:latency,exact:nrmse+temperature" in line(found, table)
    assert line(found, table).endswith("beaten=false")


def test_a_rival_as_good_in_all_and_better_in_one_would_replace_ours() -> None:
    assert verdict({OURS: row(0.2, 0.3, 2.0), "gru": row(0.2, 0.3, 1.9)})["better_and_no_slower"] == ["gru"]


def test_summary_averages_seeds_but_takes_the_least_time() -> None:
    rows = [{"rival": "gru", **row(0.2, 0.3, 5.0)}, {"rival": "gru", **row(0.4, 0.5, 3.0)}]
    found = summary(rows)["gru"]
    assert found["nrmse"] == pytest.approx(0.3) and found["nrmse_spread"] == pytest.approx(0.1)
    assert found["zone_temperature_rmse_k_spread"] == pytest.approx(0.1) and found["ms_per_window"] == 3.0
    assert "0.300 ± 0.100" in markdown({"gru": found})


def test_a_killed_run_goes_on_where_it_stopped(
    office: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_dataset(office, tmp_path / "dataset")
    out = tmp_path / "rows.jsonl"
    asked = [str(tmp_path / "dataset"), "--budget-s", "0.01", "--only", "linear,linear_lagged", "--out", str(out)]
    main([*asked, "--seeds", "1", "--json"])
    first = json.loads(capsys.readouterr().out)["rivals"]
    out.write_text(out.read_text() + '\n{"dataset": "cut')  # what a kill leaves
    main([*asked, "--seeds", "1,2"])
    table = capsys.readouterr().out
    rows = [json.loads(text) for text in out.read_text().splitlines() if text.endswith("}")]
    assert [(r["rival"], r["seed"]) for r in rows] == [("linear", 1), ("linear_lagged", 1), ("linear", 2), ("linear_lagged", 2)]
    assert rows[0]["nrmse"] == first["linear"]["nrmse"]
    assert table.count("\n| linear") == 2
    assert first["linear_lagged"]["nrmse"] < first["linear"]["nrmse"]  # the room remembers


def test_a_missing_library_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    blocked = (
        "import sys; sys.modules['lightgbm'] = None; from benchmarks.baselines import main; main(['nowhere', '--only', 'trees'])"
    )
    answer = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert "the rival 'trees' needs lightgbm" in answer.stderr and "pip install 'setwise[rivals]'" in answer.stderr


def test_an_unknown_rival_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["nowhere", "--only", "gru,lstm"])
    assert "no rival lstm; there are linear" in capsys.readouterr().err
