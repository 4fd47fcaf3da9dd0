"""From closed gates to a physically smaller dense network with the same answers. Zeros cost time on every machine; absent
weights do not.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from models.network import FeedForward, Layer, Mixing, Network
from models.pruning.selection import needed_inputs


def shrink(network: Network) -> Network:
    """Return a new network without the heads, units and inputs whose gate is closed.

    The answers are the same to float32 rounding; the new network's `inputs` are those still needed, so a caller selects channels
    with `network.inputs.positions(shrunk.inputs.names)`.
    """
    layers = [layer for layer in network.layers if isinstance(layer, Layer)]
    config = replace(
        network.config,
        n_heads=tuple(int((layer.mixing.gate != 0).sum()) for layer in layers),
        n_ffn=tuple(int((layer.ffn.gate != 0).sum()) for layer in layers),
    )
    small = Network(needed_inputs(network), network.outputs, config).to(network.gate.device)
    with torch.no_grad():
        kept = _open(network.gate)
        for name in ("is_log", "mean", "std"):
            getattr(small.scaling, name).copy_(getattr(network.scaling, name)[kept])
        for name in ("is_squared", "offset", "scale"):
            getattr(small.scaling, name).copy_(getattr(network.scaling, name))
        small.embedding.inwards.weight.copy_((network.embedding.inwards.weight * network.gate)[:, kept])
        small.embedding.inwards.bias.copy_(network.embedding.inwards.bias)
        small.embedding.outwards.load_state_dict(network.embedding.outwards.state_dict())
        for old, new in zip(layers, small.layers, strict=True):
            assert isinstance(new, Layer)  # for the type checker: small was built of layers above
            new.norm_mixing.load_state_dict(old.norm_mixing.state_dict())
            new.norm_ffn.load_state_dict(old.norm_ffn.state_dict())
            _shrink_mixing(old.mixing, new.mixing)
            _shrink_ffn(old.ffn, new.ffn)
        small.norm.load_state_dict(network.norm.state_dict())
        small.head.load_state_dict(network.head.state_dict())
    return small.train(network.training)


def _open(gate: Tensor) -> Tensor:
    return torch.nonzero(gate != 0).flatten()


def _shrink_mixing(old: Mixing, new: Mixing) -> None:
    heads = _open(old.gate)
    a, e = old.attended, old.head_width
    channels = (heads[:, None] * e + torch.arange(e, device=heads.device)).flatten()
    rest = torch.arange(3 * a, old.inwards.out_features, device=heads.device)
    rows = torch.cat([channels, a + channels, 2 * a + channels, rest])
    _copy(new.inwards, old.inwards.weight[rows], old.inwards.bias[rows])
    columns = torch.cat([channels, torch.arange(a, old.outwards.in_features, device=heads.device)])
    gates = torch.cat([old.gate.repeat_interleave(e), torch.ones(old.remembered, device=heads.device)])
    new.outwards.weight.copy_((old.outwards.weight * gates)[:, columns])
    new.lag_bias.copy_(old.lag_bias[heads])


def _shrink_ffn(old: FeedForward, new: FeedForward) -> None:
    units = _open(old.gate)
    _copy(new.inwards, old.inwards.weight[units], old.inwards.bias[units])
    new.outwards.weight.copy_((old.outwards.weight * old.gate)[:, units])


def _copy(linear: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    linear.weight.copy_(weight)
    linear.bias.copy_(bias)
