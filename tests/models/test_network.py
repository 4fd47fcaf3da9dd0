"""The network: causal, row by row, any length, the same with and without blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from building.description import load_building
from models.export import Deployed
from models.network import Mixing, Network, NetworkConfig, n_weights


def test_hour_t_depends_on_hours_up_to_t_only(network: Network, x_btc: np.ndarray) -> None:
    x = torch.from_numpy(x_btc)
    with torch.no_grad():
        before = network.latent(x)
        for t in (0, 1, 23, 24, 25, 47, 48, 71, 99):
            changed = x.clone()
            changed[:, t:] += torch.rand_like(changed[:, t:]) * 5
            after = network.latent(changed)
            gap = (before - after).abs()
            assert t == 0 or gap[:, :t].max() < 1e-5, t  # rounding of float32, nothing more
            assert gap[:, t].max() > 1e-2, t


def test_first_hour_is_still_remembered_after_four_days(network: Network, x_btc: np.ndarray) -> None:
    x = torch.from_numpy(x_btc)
    changed = x.clone()
    changed[:, 0, 0] += 20.0
    with torch.no_grad():
        gap = (network.latent(changed) - network.latent(x))[:, -1].abs().max()
    assert gap > 1e-6  # attention alone sees 47 h: only the memory reaches this far


def test_each_row_of_a_batch_is_answered_alone(network: Network, x_btc: np.ndarray) -> None:
    x = torch.from_numpy(x_btc)
    with torch.no_grad():
        whole = network(x)
        for i in range(len(x)):
            torch.testing.assert_close(network(x[i : i + 1])[0], whole[i], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("hours", [1, 23, 24, 25, 100])
def test_a_shorter_scenario_gets_the_same_answers(network: Network, x_btc: np.ndarray, hours: int) -> None:
    x = torch.from_numpy(x_btc)
    with torch.no_grad():
        torch.testing.assert_close(network.latent(x[:, :hours]), network.latent(x)[:, :hours], rtol=1e-4, atol=1e-5)


def test_a_scenario_in_pieces_of_whole_blocks_is_answered_as_the_whole(network: Network, x_btc: np.ndarray) -> None:
    x = torch.from_numpy(x_btc)
    deployed, state, pieces = Deployed(network), network.no_past(len(x)), []
    with torch.no_grad():
        for start, end in ((0, 24), (24, 72), (72, 100)):
            y, state = deployed(x[:, start:end], state)
            pieces.append(y)
        whole, _ = deployed(x, network.no_past(len(x)))
        torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-5, atol=1e-3)


def test_a_deployed_network_answers_as_the_network_does_with_its_scaling_inside_the_weights(
    network: Network, x_btc: np.ndarray
) -> None:
    x = torch.from_numpy(x_btc)
    network.gate[2] = 0.0  # an input that is pruned
    with torch.no_grad():
        for weight in network.parameters():  # as trained: no bias is zero and no gain one
            weight += 0.1 * torch.randn_like(weight)
        y, _ = Deployed(network)(x, network.no_past(len(x)))
        gap = (y - network(x)) / network.scaling.scale
    assert network.scaling.is_log.any() and network.scaling.is_squared.any() and not network.scaling.is_squared.all()
    assert gap.abs().max() < 1e-4


def test_memory_in_blocks_equals_the_recurrence_step_by_step() -> None:
    torch.manual_seed(3)
    config = NetworkConfig(d_model=8, n_memories=3, memory_width=2, block_h=6)
    mixing = Mixing(config, n_heads=1)
    u, w = torch.randn(2, 5, 6, 6), torch.randn(2, 5, 6, 3) * 2 - 2
    past = torch.randn(2, 6)
    got, left = mixing._remember(u, w, past)
    a = torch.exp(-torch.nn.functional.softplus(w)).reshape(2, 30, 3, 1)
    state, wanted = past.reshape(2, 3, 2), []
    for t in range(30):
        state = a[:, t] * state + (1 - a[:, t]) * u.reshape(2, 30, 3, 2)[:, t]
        wanted.append(state)
    torch.testing.assert_close(got.reshape(2, 30, 3, 2), torch.stack(wanted, dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(left.reshape(2, 3, 2), state, rtol=1e-4, atol=1e-5)


def test_memories_that_forget_everything_each_hour_stay_finite() -> None:
    mixing = Mixing(NetworkConfig(d_model=8, n_memories=1, memory_width=1, block_h=12), n_heads=0)
    u = torch.randn(1, 150, 12, 1)  # 75 days: the log decay between first and last is beyond FAR
    got, _ = mixing._remember(u, torch.full((1, 150, 12, 1), 30.0), torch.ones(1, 1))
    # A block of 12 h leaves at most exp(-80 / 12), 0.13 %, of an hour to the next: nothing, for a memory.
    torch.testing.assert_close(got.reshape(-1), u.reshape(-1), rtol=0, atol=2e-3 * float(u.abs().max() * 2))


def test_attention_in_blocks_equals_masked_attention_over_all_hours() -> None:
    torch.manual_seed(4)
    config = NetworkConfig(d_model=8, head_width=4, block_h=5)
    mixing = Mixing(config, n_heads=2)
    with torch.no_grad():
        mixing.lag_bias.add_(torch.randn_like(mixing.lag_bias))
    q, k, v = torch.randn(3, 2, 4, 5, 8)
    past_k, past_v = torch.randn(2, 2, 1, 5, 8)
    heads = mixing._attend(q, torch.cat([k, v], dim=-1), torch.cat([past_k, past_v], dim=-1))
    got = torch.cat(heads, dim=-1).reshape(2, 20, 8)
    k, v = torch.cat([past_k, k], dim=1), torch.cat([past_v, v], dim=1)
    q, k, v = (s.reshape(2, -1, 2, 4).transpose(1, 2) for s in (q, k, v))
    hours = torch.arange(20)
    keys = torch.arange(-5, 20)
    lag = hours[:, None] - keys[None, :]
    seen = (lag >= 0) & (torch.floor_divide(keys, 5)[None, :] >= hours[:, None] // 5 - 1)
    bias = mixing.lag_bias[:, lag.clamp(0, 9)].masked_fill(~seen, float("-inf"))
    wanted = ((q @ k.transpose(-1, -2) / 2 + bias).sigmoid() @ v).transpose(1, 2).reshape(2, 20, 8)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_powers_and_co2_never_fall_below_their_offset(network: Network, x_btc: np.ndarray) -> None:
    with torch.no_grad():
        network.head.bias[2] -= network.latent(torch.from_numpy(x_btc))[..., 2].mean()  # so that both signs occur
        y = network(torch.from_numpy(x_btc))
    assert (y[..., 1:] >= network.scaling.offset[1:]).all()
    assert (y[..., 2] == 0).any() and (y[..., 2] > 0).any()


def test_answers_scale_with_the_units_of_the_data(x_btc: np.ndarray) -> None:
    building = load_building("medium_office")
    network = Network(building.inputs, building.outputs, NetworkConfig())
    logs = {name for name, is_log in zip(building.inputs.names, network.scaling.is_log.tolist(), strict=True) if is_log}
    assert logs == {"infiltration", "internal_mass", "wall_insulation", "roof_insulation"}
    assert 100_000 < n_weights(network) < 160_000  # before pruning


def test_encode_and_fit_give_standard_numbers(network: Network) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 5, (10, 50, 7)).astype(np.float32)
    network.scaling.fit(x, rng.uniform(1, 5, (10, 50, 4)).astype(np.float32))
    z = network.scaling.encode(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(z.mean(axis=(0, 1)), 0, atol=1e-3)
    np.testing.assert_allclose(z.std(axis=(0, 1)), 1, atol=1e-3)


def test_config_survives_json() -> None:
    config = NetworkConfig(n_heads=(1, 0, 3), n_ffn=(9, 8, 7), tau_h=(1.0, 50.0))
    import json

    assert NetworkConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
