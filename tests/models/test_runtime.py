"""The bundle: what was exported answers as torch did, and what was damaged is refused with a sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from building.errors import BadBundleError, BundleChecksumError, BundleSchemaError, NotFiniteError, OutsideTrainingBoundsError, ShapeError
from building.predictor import Predictor
from building.scenario import Scenario
from models.export import graph_gap
from models.network import Network
from models.runtime import session
from models.runtime.bundle import Bundle, load_bundle, sha256
from models.runtime.session import OnnxPredictor


@pytest.fixture
def predictor(shipped: tuple[Network, Bundle]) -> OnnxPredictor:
    return OnnxPredictor(shipped[1])


@pytest.fixture
def copy(shipped: tuple[Network, Bundle], tmp_path: Path) -> Path:
    """A bundle to damage."""
    return Path(shutil.copytree(shipped[1].folder, tmp_path / "copy"))


def _change(folder: Path, **facts: object) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_onnx_answers_as_torch_for_any_batch_and_length(
    shipped: tuple[Network, Bundle], predictor: OnnxPredictor, x_btc: np.ndarray
) -> None:
    network = shipped[0]
    for x in (x_btc, x_btc[:1], x_btc[:3, :24], x_btc[:2, :1], np.repeat(x_btc, 9, axis=1)):
        with torch.no_grad():
            wanted = network(torch.from_numpy(x)).numpy()
        scale = network.scaling.scale.numpy()
        np.testing.assert_allclose(predictor.predict(x.astype(float)) / scale, wanted / scale, atol=2e-5, rtol=2e-5)
    assert graph_gap(network, shipped[1].graph, x_btc) < 2e-5


def test_it_is_a_predictor_with_the_signatures_of_the_bundle(predictor: OnnxPredictor, network: Network) -> None:
    assert isinstance(predictor, Predictor)
    assert (predictor.inputs, predictor.outputs) == (network.inputs, network.outputs)
    assert predictor.inputs["system_on"].high == 1


@pytest.mark.parametrize("n_threads", [1, 3])
def test_each_row_of_a_batch_is_answered_alone(
    shipped: tuple[Network, Bundle], x_btc: np.ndarray, monkeypatch: pytest.MonkeyPatch, n_threads: int
) -> None:
    monkeypatch.setattr(session, "CHUNK_H", 200)  # chunks of two, the last of one
    predictor = OnnxPredictor(shipped[1], n_threads=n_threads)
    whole = predictor.predict(x_btc.astype(float))
    for i in range(len(x_btc)):
        np.testing.assert_allclose(predictor.predict(x_btc[i : i + 1].astype(float))[0], whole[i], rtol=1e-4, atol=1e-3)


def test_a_large_batch_is_answered_in_bounded_chunks(predictor: OnnxPredictor, x_btc: np.ndarray) -> None:
    lengths = []
    run = predictor._session.run

    class Watched:
        def run(self, names: object, feed: dict[str, np.ndarray]) -> object:
            lengths.append(feed["x_btc"].shape[0] * feed["x_btc"].shape[1])
            return run(names, feed)

        def get_inputs(self) -> object:
            return predictor._session.get_inputs()

    session.run_graph(Watched(), np.repeat(x_btc, 20, axis=0), 4)  # type: ignore[arg-type]
    assert max(lengths) <= session.CHUNK_H and sum(lengths) == 100 * 100


def test_given_a_past_futures_are_answered_as_in_whole_windows(predictor: OnnxPredictor, x_btc: np.ndarray) -> None:
    index = pd.date_range("2021-01-04", periods=60, freq="h", tz="UTC")
    past = Scenario(predictor.inputs, index, x_btc[0, :60].astype(float))
    whole = predictor.predict(x_btc[:1].astype(float))
    future = predictor.given(past).predict(x_btc[:1, 60:].astype(float))
    np.testing.assert_allclose(future, whole[:, 60:], rtol=1e-4, atol=1e-3)


def test_a_wrong_shape_is_refused(predictor: OnnxPredictor, x_btc: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="7"):
        predictor.predict(x_btc[..., :5].astype(float))
    with pytest.raises(ShapeError):
        predictor.predict(x_btc[0].astype(float))
    assert predictor.predict(np.zeros((0, 24, 7))).shape == (0, 24, 4)


def test_bundle_says_what_it_is(shipped: tuple[Network, Bundle]) -> None:
    bundle = load_bundle(shipped[1].folder)
    assert bundle.building == "toy_office" and bundle.warm_up_h == 24
    assert bundle.accuracy == {"zone_temperature_rmse_k": 1.0}
    card = (bundle.folder / "CARD.md").read_text()
    assert "zone_temperature_rmse_k" in card and "Where it fails" in card


@pytest.mark.parametrize("file", ["graph.onnx", "CARD.md"])
def test_a_damaged_file_is_refused_by_its_checksum(copy: Path, file: str) -> None:
    data = bytearray((copy / file).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / file).write_bytes(bytes(data))
    with pytest.raises(BundleChecksumError, match=file):
        load_bundle(copy)


def test_another_schema_version_is_refused(copy: Path) -> None:
    _change(copy, schema_version=99)
    with pytest.raises(BundleSchemaError, match="99"):
        load_bundle(copy)


def test_a_graph_nobody_vouches_for_is_refused(copy: Path) -> None:
    _change(copy, sha256={"CARD.md": sha256(copy / "CARD.md")})
    with pytest.raises(BadBundleError, match=r"graph\.onnx"):
        load_bundle(copy)


def test_missing_pieces_are_named(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(BadBundleError, match=r"no bundle\.json"):
        load_bundle(tmp_path / "nowhere")
    (copy / "CARD.md").unlink()
    with pytest.raises(BadBundleError, match=r"CARD\.md"):
        load_bundle(copy)
    facts = json.loads((copy / "bundle.json").read_text())
    del facts["outputs"]
    (copy / "bundle.json").write_text(json.dumps(facts))
    with pytest.raises(BadBundleError, match="outputs"):
        load_bundle(copy)
    (copy / "bundle.json").write_text("{")
    with pytest.raises(BadBundleError, match="not JSON"):
        load_bundle(copy)


def test_a_graph_that_is_no_graph_is_refused(copy: Path) -> None:
    (copy / "graph.onnx").write_bytes(b"not a graph")
    _change(copy, sha256={"graph.onnx": sha256(copy / "graph.onnx")})
    with pytest.raises(BadBundleError, match="onnxruntime cannot read"):
        OnnxPredictor(load_bundle(copy))


def test_signatures_that_do_not_fit_the_graph_are_refused(copy: Path) -> None:
    _change(copy, inputs=json.loads((copy / "bundle.json").read_text())["inputs"][:-1])
    with pytest.raises(BadBundleError, match="7 inputs"):
        OnnxPredictor(load_bundle(copy))


@pytest.mark.parametrize(("channel", "value", "said"), [(0, 60.0, "outdoor_air_temperature = 60"), (4, 40.0, "heating_setpoint = 40")])
def test_a_scenario_outside_the_bounds_of_the_training_is_refused_with_variable_value_and_bounds(
    predictor: OnnxPredictor, x_btc: np.ndarray, channel: int, value: float, said: str
) -> None:
    x = x_btc.astype(float)
    x[3, 50, channel] = value
    with pytest.raises(OutsideTrainingBoundsError, match=said):
        predictor.predict(x)


def test_a_scenario_with_a_value_that_is_no_number_is_refused(predictor: OnnxPredictor, x_btc: np.ndarray) -> None:
    x = x_btc.astype(float)
    x[1, 7, 3] = np.nan
    with pytest.raises(NotFiniteError, match="infiltration"):
        predictor.predict(x)
