"""Induced feature selection (arXiv 2303.10999): the inputs a structured-pruned network still needs, and so the sensors to buy."""

from __future__ import annotations

from building.variables import Signature
from models.network import Network


def needed_inputs(network: Network) -> Signature:
    """Return the inputs whose gate is open, in order. Settings and parameters are always among them
    (`granularity.NEVER_PRUNED`).
    """
    return network.inputs.only(v.name for v, gate in zip(network.inputs, network.gate.tolist(), strict=True) if gate != 0)


def input_scores(network: Network) -> dict[str, float]:
    """Return mean_o |W[o, i]| of the embedding on standardised inputs, by input; 0 for a pruned one."""
    weight = network.embedding.inwards.weight.detach() * network.gate.detach()
    return dict(zip(network.inputs.names, weight.abs().mean(dim=0).tolist(), strict=True))
