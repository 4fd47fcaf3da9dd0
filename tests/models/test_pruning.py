"""Pruning: schedules and projections on known answers, gates that keep their promises, and a small network with the same
answers.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from building.variables import Role
from models.network import Network, n_weights
from models.pruning import criteria, projection, schedule
from models.pruning.criteria import Evidence
from models.pruning.granularity import FFN_UNIT, HEAD, INPUT, Group
from models.pruning.masks import Masks, Pruning, close
from models.pruning.selection import input_scores, needed_inputs
from models.pruning.shrink import shrink

SCHEDULES = (schedule.one_cycle, schedule.one_shot, schedule.iterative, schedule.agp)


def test_one_cycle_follows_the_published_table() -> None:
    shares = [schedule.one_cycle(t) for t in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)]
    np.testing.assert_allclose(shares, [0.027, 0.100, 0.310, 0.646, 0.881, 0.968, 0.992, 0.998], atol=6e-4)
    assert schedule.one_cycle(1.0, 0.1, 0.7) == pytest.approx(0.7, abs=1e-12)
    assert schedule.one_cycle(0.0) == pytest.approx(0.0067, abs=1e-4)


def test_comparators_start_late_and_arrive() -> None:
    assert [schedule.one_shot(t, 0, 0.8) for t in (0.39, 0.4, 1.0)] == [0, 0.8, 0.8]
    assert [schedule.iterative(t, 0, 0.9) for t in (0.1, 0.3, 0.6, 1.0)] == pytest.approx([0, 0.3, 0.6, 0.9])
    assert schedule.agp(0.6, 0, 0.8) == pytest.approx(0.8 - 0.8 * 0.5**3)
    assert partial(schedule.one_shot, start=0.7)(0.5, 0, 1) == 0


@pytest.mark.parametrize("rises", SCHEDULES)
def test_every_schedule_rises_to_its_target(rises: schedule.Schedule) -> None:
    values = [rises(t, 0.0, 0.6) for t in np.linspace(0, 1, 101)]
    assert values == sorted(values) and values[-1] == pytest.approx(0.6)


def _is_nearest(w: torch.Tensor, projected: torch.Tensor, norm: object, radius: float, seed: int) -> bool:
    """Brute force: no feasible point among many, most of them close by, is nearer to w (the ball is convex, so local is
    global).
    """
    rng = torch.Generator().manual_seed(seed)
    best = (w - projected).norm()
    for scale in (1e-3, 1e-2, 1e-1, 1.0):
        for _ in range(300):
            other = projected + scale * torch.randn(w.shape, generator=rng, dtype=w.dtype)
            other = other * min(1.0, radius / norm(other))  # type: ignore[operator]
            if (w - other).norm() < best - 1e-9:
                return False
    return True


@pytest.mark.parametrize("project", [projection.l1, projection.l21, projection.nuclear])
def test_euclidean_projections_are_nearest_points(project: object) -> None:
    norm = projection.BALLS[project]  # type: ignore[index]
    for seed in range(5):
        w = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        radius = 0.5 * norm(w)
        projected = project(w, radius)  # type: ignore[operator]
        assert norm(projected) == pytest.approx(radius, rel=1e-9)
        assert _is_nearest(w, projected, norm, radius, seed)
        assert torch.equal(project(projected * 0.9, radius), projected * 0.9) or torch.allclose(  # type: ignore[operator]
            project(projected * 0.9, radius),
            projected * 0.9,  # type: ignore[operator]
        )


def test_l1_projection_of_a_vector_solved_by_hand() -> None:
    projected = projection.l1(torch.tensor([3.0, -1.0, 0.5]), 2.0)
    torch.testing.assert_close(projected, torch.tensor([2.0, 0.0, 0.0]))
    torch.testing.assert_close(projection.l1(torch.tensor([2.0, 2.0]), 2.0), torch.tensor([1.0, 1.0]))


def test_l21_projection_removes_whole_columns() -> None:
    w = torch.tensor([[3.0, 0.1], [4.0, 0.0]])
    torch.testing.assert_close(projection.l21(w, 2.0), torch.tensor([[1.2, 0.0], [1.6, 0.0]]))


@pytest.mark.parametrize("project", [projection.bilevel_l11, projection.bilevel_l1inf])
def test_bilevel_projections_are_feasible_and_zero_columns_but_are_not_nearest(project: object) -> None:
    norm = projection.BALLS[project]  # type: ignore[index]
    w = torch.randn(6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * torch.tensor([3.0, 2, 1, 0.3, 0.1])
    radius = 0.4 * norm(w)
    projected = project(w, radius)  # type: ignore[operator]
    nearest = projection.l1(w, radius) if project is projection.bilevel_l11 else _nearest_l1inf(w, radius)
    assert norm(projected) == pytest.approx(radius) and norm(nearest) == pytest.approx(radius)
    assert (projected.abs().sum(dim=0) == 0).any()
    assert (w - nearest).norm() < 0.999 * (w - projected).norm()


def _nearest_l1inf(w: torch.Tensor, radius: float) -> torch.Tensor:
    """Euclidean projection on the l1,inf ball: every surviving column gives up the same theta (Quattoni et al. 2009); by
    bisection.
    """

    def caps(theta: float) -> torch.Tensor:
        """Return the m_j with sum_i max(|w_ij| - m_j, 0) = theta, 0 where the column has less than theta."""
        size = w.abs().sort(dim=0, descending=True).values
        counts = torch.arange(1, len(w) + 1, dtype=w.dtype)[:, None]
        return ((size.cumsum(dim=0) - theta) / counts).amax(dim=0).clamp(min=0)

    low, high = 0.0, float(w.abs().sum())
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if float(caps(middle).sum()) > radius else (low, middle)
    m = caps(high)
    return torch.minimum(torch.maximum(w, -m), m)


def _group(vectors: torch.Tensor, floor: int = 1, is_protected: torch.Tensor | None = None) -> Group:
    n = len(vectors)
    protected = torch.zeros(n, dtype=torch.bool) if is_protected is None else is_protected
    return Group("g", torch.ones(n), lambda: vectors, floor, protected)


def _evidence(n: int) -> Evidence:
    return Evidence(torch.zeros(n), torch.zeros(n))


def test_magnitude_ranks_by_mean_absolute_weight() -> None:
    group = _group(torch.tensor([[1.0, -3.0], [0.1, 0.1], [2.0, 2.0]]))
    torch.testing.assert_close(criteria.magnitude(group, _evidence(3)), torch.tensor([2.0, 0.1, 2.0]))


def test_movement_and_taylor_take_their_scores_from_the_gradients_of_the_gates() -> None:
    evidence = _evidence(2)
    evidence.add(torch.tensor([1.0, -2.0]), memory=0.5)
    evidence.add(torch.tensor([1.0, -2.0]), memory=0.5)
    group = _group(torch.ones(2, 2))
    torch.testing.assert_close(criteria.movement(group, evidence), torch.tensor([-1.5, 3.0]))
    torch.testing.assert_close(criteria.taylor(group, evidence), torch.tensor([0.75, 3.0]))


def test_filter_variety_keeps_a_rare_weak_unit_and_drops_a_strong_double() -> None:
    vectors = torch.tensor([[3.0, 0.0, 0.0], [2.9, 0.1, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 1.0]])
    by_size, by_variety = _group(vectors), _group(vectors)
    close([(by_size, criteria.magnitude(by_size, _evidence(4)))], 0.25)
    close([(by_variety, criteria.varied(criteria.magnitude)(by_variety, _evidence(4)))], 0.25)
    assert by_size.gate.tolist() == [1, 1, 0, 1]
    assert by_variety.gate.tolist() == [1, 0, 1, 1] or by_variety.gate.tolist() == [0, 1, 1, 1]


def test_projection_as_a_criterion_ranks_what_it_removes_last() -> None:
    group = _group(torch.tensor([[0.1, 0.1], [3.0, 4.0], [1.0, 1.0]]))
    score = criteria.constrained(projection.l21, share=0.5)(group, _evidence(3))
    assert score.argsort().tolist() == [0, 2, 1]


def test_floor_and_protection_win_over_the_target() -> None:
    group = _group(torch.ones(6, 1), floor=3, is_protected=torch.tensor([True, True, False, False, False, False]))
    close([(group, torch.arange(6.0))], 1.0)
    assert group.gate.tolist() == [1, 1, 0, 0, 0, 1]


def test_gates_follow_the_schedule_in_one_cycle_and_never_reopen(network: Network) -> None:
    masks = Masks(
        network, (Pruning(FFN_UNIT, criteria.magnitude, schedule.one_cycle, 0.5), Pruning(HEAD, criteria.taylor, target=0.4))
    )
    closed_before = 0
    for t in np.linspace(0, 1, 21):
        masks.update(float(t))
        closed = [layer.ffn.gate for layer in network.layers]
        n_closed = sum(int((g == 0).sum()) for g in closed)
        wanted = sum(round(schedule.one_cycle(float(t), 0, 0.5) * len(g)) for g in closed)
        assert n_closed == wanted >= closed_before
        closed_before = n_closed
    assert masks.sparsity() == {"ffn_unit": pytest.approx(0.5), "head": pytest.approx(2 / 5)}


def test_settings_and_parameters_are_never_pruned(network: Network) -> None:
    masks = Masks(network, (Pruning(INPUT, criteria.magnitude, schedule.one_cycle, 1.0),))
    masks.update(1.0)
    kept = needed_inputs(network)
    assert kept.having(Role.SETTING, Role.PARAMETER) == network.inputs.having(Role.SETTING, Role.PARAMETER)
    assert len(kept) == 4
    assert [name for name, score in input_scores(network).items() if score == 0] == [
        "outdoor_air_temperature", "wind_speed", "occupancy_share",
    ]  # fmt: skip


def test_gradient_of_a_gate_is_that_of_its_weights_along_themselves(network: Network, x_btc: np.ndarray) -> None:
    masks = Masks(network, (Pruning(FFN_UNIT), Pruning(HEAD)), memory=0.0)
    network.latent(torch.from_numpy(x_btc)).square().mean().backward()
    layer = network.layers[0]
    weight = layer.ffn.outwards.weight
    masks.collect()
    wanted = -(weight.grad * weight).sum(dim=0)
    torch.testing.assert_close(masks.evidence["layer 0 units"].movement, wanted.detach(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("against", ["layer", "network"])
def test_shrunk_network_gives_the_same_answers(network: Network, x_btc: np.ndarray, against: str) -> None:
    recipe = (
        Pruning(HEAD, criteria.magnitude, schedule.one_cycle, 0.5, against),  # type: ignore[arg-type]
        Pruning(FFN_UNIT, criteria.varied(criteria.magnitude), schedule.agp, 0.6, against),  # type: ignore[arg-type]
        Pruning(INPUT, criteria.magnitude, schedule.one_shot, 0.4, against),  # type: ignore[arg-type]
    )
    masks = Masks(network, recipe)
    masks.update(1.0)
    masks.release()
    small = shrink(network)
    assert n_weights(small) < 0.8 * n_weights(network)
    assert len(small.inputs) == 6
    assert sum(small.config.n_heads) == 3 if against == "network" else small.config.n_heads == (1, 1)
    x = torch.from_numpy(x_btc)
    with torch.no_grad():
        before, after = network.latent(x), small.latent(x[:, :, network.inputs.positions(small.inputs.names)])
    assert (before - after).abs().max() < 1e-5
    assert before.std() > 0.1  # the answers compared are not all alike


def test_shrinking_an_unpruned_network_changes_nothing(network: Network, x_btc: np.ndarray) -> None:
    x = torch.from_numpy(x_btc)
    small = shrink(network)
    assert small.config == network.config
    with torch.no_grad():
        assert torch.equal(network(x), small(x))
