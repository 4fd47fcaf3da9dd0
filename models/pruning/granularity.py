"""What is pruned: attention heads, feed-forward units, inputs. A granularity is a value that finds its groups in a network.

A group is a set of alike units behind one gate: the heads of one layer, the units of one layer, the inputs of the network.
Gates are 1 for a unit that lives and 0 for one that does not; `shrink` removes the zeros for good.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from building.variables import Role
from models.network import Layer, Network

NEVER_PRUNED = (Role.PARAMETER, Role.SETTING)
"""A pruned calibration parameter or decision variable would become a no-op without an error."""


@dataclass(frozen=True)
class Group:
    """Alike units behind one gate.

    Attributes:
        name: where in the network, e.g. ``layer 0 heads``.
        gate: shape (units,), 1 or 0; shared with the network.
        vectors: returns all weights of each unit, shape (units, weights per unit).
        floor: units that always stay.
        is_protected: units that may never go, shape (units,).
    """

    name: str
    gate: Tensor
    vectors: Callable[[], Tensor]
    floor: int
    is_protected: Tensor


@dataclass(frozen=True)
class Granularity:
    """A kind of unit that can be pruned."""

    name: str
    groups: Callable[[Network], list[Group]]


def _layers(network: Network) -> list[Layer]:
    return [layer for layer in network.layers if isinstance(layer, Layer)]


def _heads(network: Network) -> list[Group]:
    def vectors(layer: Layer) -> Tensor:
        """Stacked rows of Q, K, V and columns of the way out, shape (heads, weights)."""
        mixing = layer.mixing
        h, a = mixing.n_heads, mixing.attended
        parts = [*torch.split(mixing.inwards.weight[: 3 * a], a), mixing.outwards.weight[:, :a].T]
        return torch.cat([part.reshape(h, -1) for part in parts], dim=1)

    return [
        Group(
            f"layer {i} heads",
            layer.mixing.gate,
            lambda layer=layer: vectors(layer),  # type: ignore[misc]
            floor=1,
            is_protected=torch.zeros(layer.mixing.n_heads, dtype=torch.bool, device=layer.mixing.gate.device),
        )
        for i, layer in enumerate(_layers(network))
        if layer.mixing.n_heads
    ]


def _ffn_units(network: Network) -> list[Group]:
    def vectors(layer: Layer) -> Tensor:
        """In-row, bias and out-column, shape (units, weights)."""
        ffn = layer.ffn
        return torch.cat([ffn.inwards.weight, ffn.inwards.bias[:, None], ffn.outwards.weight.T], dim=1)

    return [
        Group(
            f"layer {i} units",
            layer.ffn.gate,
            lambda layer=layer: vectors(layer),  # type: ignore[misc]
            floor=8,
            is_protected=torch.zeros_like(layer.ffn.gate, dtype=torch.bool),
        )
        for i, layer in enumerate(_layers(network))
    ]


def _inputs(network: Network) -> list[Group]:
    return [
        Group(
            "inputs",
            network.gate,
            lambda: network.embedding.inwards.weight.T,
            floor=1,
            is_protected=torch.tensor([v.role in NEVER_PRUNED for v in network.inputs], device=network.gate.device),
        )
    ]


HEAD = Granularity("head", _heads)
FFN_UNIT = Granularity("ffn_unit", _ffn_units)
INPUT = Granularity("input", _inputs)
