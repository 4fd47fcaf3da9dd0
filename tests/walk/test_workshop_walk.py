"""Before the bundle: a campaign in EnergyPlus, a dataset, a network trained and pruned in one cycle, a bundle that answers alike.

Everything is as small as it can be and still be real: four simulations, forty steps. Whether the network is any good is
another test's question.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch comes with the extra 'train'")

import torch

from building.description import Building
from building.variables import Role
from models import training
from models.network import Network, NetworkConfig
from models.pruning.criteria import magnitude, taylor
from models.pruning.granularity import FFN_UNIT, HEAD, INPUT
from models.pruning.masks import Pruning
from models.runtime.bundle import load_bundle, sha256
from models.runtime.session import OnnxPredictor
from models.training import Training, TrainingConfig, train
from simulation.campaign import Campaign, export, run_campaign
from simulation.dataset import Dataset, load_dataset

pytestmark = pytest.mark.engine

CAMPAIGN = Campaign("medium_office", n_runs=4, n_windows=1, seed=11)  # by this seed one of the four is held back for validation
TINY = TrainingConfig(
    network=NetworkConfig(d_model=16, n_heads=(2, 2), n_ffn=(24, 24), head_width=4, n_memories=2, memory_width=4, n_products=8),
    prunings=(Pruning(HEAD, taylor, target=0.5), Pruning(FFN_UNIT, taylor, target=0.5), Pruning(INPUT, magnitude, target=0.3)),
    n_steps=40,
    n_crops=4,
    crop_h=96,
    burn_in_h=24,
    prune_every=5,
)


@dataclass(frozen=True)
class Workshop:
    """What came out at each bench."""

    dataset: Dataset
    network: Network
    training: Training


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    folder: Path = tmp_path_factory.mktemp("workshop")
    run_campaign(CAMPAIGN, folder / "campaign", lambda function, items: map(function, items))
    export(folder / "campaign", validation_share=0.5)
    exported: list[Network] = []
    write = training.export_graph

    def export_and_remember(network: Network, path: Path) -> None:
        exported.append(network)
        write(network, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "export_graph", export_and_remember)
        made = train(folder / "campaign" / "dataset", folder / "bundle", TINY, seed=2)
    yield Workshop(load_dataset(folder / "campaign" / "dataset"), exported[0], made)


def test_one_list_of_names_runs_from_the_building_to_the_bundle(workshop: Workshop, office: Building) -> None:
    assert (workshop.dataset.inputs, workshop.dataset.outputs) == (office.inputs, office.outputs)
    bundle = load_bundle(workshop.training.bundle.folder)
    assert bundle.outputs == office.outputs
    kept = [v for v in office.inputs if v.name in bundle.inputs]
    assert list(bundle.inputs) == kept, "names, bounds and order are the building's"
    pruned = set(office.inputs.names) - set(bundle.inputs.names)
    assert pruned == set(bundle.facts["training"]["pruned_inputs"]) and pruned
    assert not [n for n in pruned if office.inputs[n].role in (Role.SETTING, Role.PARAMETER)]


def test_one_cycle_ends_in_a_smaller_dense_network(workshop: Workshop) -> None:
    assert workshop.training.n_weights < 0.8 * workshop.training.n_weights_dense
    shape = workshop.network.config
    assert sum(shape.n_heads) == 2 and sum(shape.n_ffn) == 24


def test_the_bundle_answers_as_torch_does(workshop: Workshop) -> None:
    predictor = OnnxPredictor(load_bundle(workshop.training.bundle.folder))
    names = predictor.inputs.names
    x_btc = np.asarray(workshop.dataset.x_ntc[:, :, workshop.dataset.inputs.positions(names)], dtype=float)
    with torch.no_grad():
        by_torch = workshop.network(torch.from_numpy(x_btc.astype(np.float32))).numpy()
    scale = workshop.network.scaling.scale.numpy()
    np.testing.assert_allclose(predictor.predict(x_btc) / scale, by_torch / scale, atol=5e-4)
    assert workshop.training.graph_gap < 5e-4
    assert by_torch.std(axis=(0, 1)).min() > 0, "forty steps are enough to say more than one number"


def test_the_bundle_says_where_it_comes_from_what_it_cost_and_how_good_it_is(workshop: Workshop) -> None:
    bundle = load_bundle(workshop.training.bundle.folder)
    assert bundle.building == "medium_office" and bundle.warm_up_h == 168
    assert "EnergyPlus" in bundle.origin["engine"]
    assert (bundle.origin["runs"], bundle.origin["windows"], bundle.origin["failed_runs"]) == (4, 4, 0)
    assert "usa_ok_oklahoma" in bundle.origin["held_out"] and "morph" in bundle.origin
    assert 0.1 < 3600 * bundle.core_hours["campaign"] / 4 < 300, "core-seconds of one simulation"
    assert bundle.core_hours["training"] > 0
    wanted = {"zone_temperature_rmse_k", "co2_rmse_ppm", "heating_r2", "cooling_r2", "fan_r2", "electricity_r2"}
    assert wanted <= bundle.accuracy.keys()
    assert bundle.accuracy["zone_temperature_rmse_k"] == pytest.approx(
        workshop.training.accuracy["zone_temperature_rmse_k"], abs=1e-6
    )
    for file in ("graph.onnx", "CARD.md"):
        assert bundle.facts["sha256"][file] == sha256(bundle.folder / file)
