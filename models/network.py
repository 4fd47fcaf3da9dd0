"""The metamodel: a causal Transformer with local attention and a long memory. One file, one config.

Physical units go in and come out; the scaling lives inside, so that the exported graph needs no companion.

Legend of shapes: b batch, t time [h], c channel, d width of the residual stream, n blocks of `block_h` hours, l hours in a block,
h heads, e width of a head, g memories, m width of a memory, f units of a feed-forward layer, r rows = b * n * l,
s numbers of state.

One layer adds to the residual stream
    1. attention: each hour looks at its own block up to itself and at the whole block before (12 to 23 hours back), with a
       learned bias per head and lag instead of positions. An hour's share is the sigmoid of its score, by itself, as in
       Ramapuram et al. (arXiv 2409.04431), so that a head may also add hours up, where a softmax can only average them;
    2. memory: leaky integrators, s_t = a_t s_{t-1} + (1 - a_t) u_t, whose decay a_t the layer chooses hour by hour around a time
       constant between `tau_h`: the slow state of walls and air that a window of attention forgets. The recurrence is unrolled
       exactly, within a block and then over blocks (the chunked form of Dao & Gu, arXiv 2405.21060, with a scalar decay per
       memory);
    3. a feed-forward layer.

When a block is over, all that a layer needs of the past is its state: keys and values of that block and what the memories hold.
So a network can be run in pieces of whole blocks, each from the state the piece before left. Before the first hour it is zero.

Temperatures and humidity leave through a linear head; powers and CO2 through  offset + scale * relu(z)**2: never below the
offset, and exactly at it where the head says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from building.units import CO2, POWER
from building.variables import Signature

FAR = -1e4  # added to a score that must not count; sigmoid() of it is exactly 0 in float32
LONGEST_EXPONENT = 80.0  # exp() of plus and minus this is a float32
LEAST_LOGGED = 1e-6  # what is smaller counts as this before its logarithm is taken
LOG_RATIO = 8.0  # an input whose bounds are positive and this far apart is fed as its logarithm


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of a network. Heads and feed-forward units are counted per layer: a pruned network differs from layer to layer.

    Attributes:
        d_model: width of the residual stream.
        n_heads: attention heads of each layer.
        n_ffn: feed-forward units of each layer.
        head_width: width of one head.
        n_memories: groups of leaky integrators per layer, each with its own decay.
        memory_width: integrators per group.
        tau_h: shortest and longest time constant at the start of training [h].
        block_h: hours per block of attention.
        n_products: learned products of two inputs that join the embedding.
    """

    d_model: int = 96
    n_heads: tuple[int, ...] = (3, 3)
    n_ffn: tuple[int, ...] = (240, 240)
    head_width: int = 12
    n_memories: int = 4
    memory_width: int = 8
    tau_h: tuple[float, float] = (2.0, 150.0)
    block_h: int = 12
    n_products: int = 32

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.n_heads)

    @property
    def n_state(self) -> tuple[int, ...]:
        """Numbers of state of each layer: keys and values of one block, and the memories."""
        return tuple(2 * self.block_h * n * self.head_width + self.n_memories * self.memory_width for n in self.n_heads)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data, read back by `from_dict`."""
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> NetworkConfig:
        """Rebuild a config from `to_dict`'s data (lists become tuples)."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return NetworkConfig(**values)


class Scaling(nn.Module):
    """Physical units -> numbers near 1, and back. Buffers only: fitted once on training data, never trained.

    Attributes:
        is_log: inputs fed as logarithms, shape (c,).
        mean, std: of the inputs (after the logarithm), shape (c,).
        is_squared: outputs that leave through offset + scale * relu(z)**2, shape (o,).
        offset, scale: of the outputs, shape (o,).
    """

    is_log: Tensor
    mean: Tensor
    std: Tensor
    is_squared: Tensor
    offset: Tensor
    scale: Tensor

    def __init__(self, inputs: Signature, outputs: Signature) -> None:
        super().__init__()
        is_log = [v.low > 0 and v.high / v.low >= LOG_RATIO for v in inputs]
        is_squared = [v.quantity.name in (POWER.name, CO2.name) for v in outputs]
        self.register_buffer("is_log", torch.tensor(is_log))
        self.register_buffer("mean", torch.zeros(len(inputs)))
        self.register_buffer("std", torch.ones(len(inputs)))
        self.register_buffer("is_squared", torch.tensor(is_squared))
        self.register_buffer("offset", torch.zeros(len(outputs)))
        self.register_buffer("scale", torch.ones(len(outputs)))

    def fit(self, x_ntc: NDArray[np.floating[Any]], y_nto: NDArray[np.floating[Any]]) -> None:
        """Take the scaling from training data, shapes (windows, time, channels), physical units."""
        is_log, is_squared = self.is_log.numpy(), self.is_squared.numpy()
        x = np.asarray(x_ntc, dtype=np.float64).reshape(-1, len(is_log))
        x[:, is_log] = np.log(np.maximum(x[:, is_log], LEAST_LOGGED))
        y = np.asarray(y_nto, dtype=np.float64).reshape(-1, len(is_squared))
        std = x.std(axis=0)
        self.mean.copy_(torch.from_numpy(x.mean(axis=0)))
        self.std.copy_(torch.from_numpy(np.where(std > 1e-9, std, 1.0)))
        offset = np.where(is_squared, y.min(axis=0), y.mean(axis=0))
        scale = np.where(is_squared, (y - offset).mean(axis=0), y.std(axis=0))
        self.offset.copy_(torch.from_numpy(offset))
        self.scale.copy_(torch.from_numpy(np.where(scale > 1e-9, scale, 1.0)))

    def encode(self, x_btc: Tensor) -> Tensor:
        """Return standardised inputs, same shape."""
        x_btc = torch.where(self.is_log, torch.log(torch.clamp(x_btc, min=LEAST_LOGGED)), x_btc)
        return (x_btc - self.mean) / self.std

    def decode(self, z_bto: Tensor) -> Tensor:
        """Return outputs in physical units from what the head says, same shape."""
        return self.offset + self.scale * torch.where(self.is_squared, torch.square(F.relu(z_bto)), z_bto)


def onto(stream_rd: Tensor, branch_rk: Tensor, weight_dk: Tensor) -> Tensor:
    """Return stream + branch @ weight.T, a branch added to the residual stream: one product that starts from it, no sum after."""
    return torch.addmm(stream_rd, branch_rk, weight_dk.t())


def products(x_rd: Tensor, weight_kd: Tensor, bias_k: Tensor, widths: list[int]) -> list[Tensor]:
    """Return x @ weight.T + bias cut into `widths` columns: a product each, since cutting copies what a wide one has written."""
    parts = [slice(end - width, end) for width, end in zip(widths, accumulate(widths), strict=True)]
    return [F.linear(x_rd, weight_kd[part], bias_k[part]) for part in parts]


class Embedding(nn.Module):
    """Linear embedding of the inputs plus learned products of two mixtures of them (flow times temperature difference, ...)."""

    def __init__(self, n_inputs: int, config: NetworkConfig) -> None:
        super().__init__()
        self.n_products = config.n_products
        self.inwards = nn.Linear(n_inputs, config.d_model + 2 * config.n_products)
        self.outwards = nn.Linear(config.n_products, config.d_model, bias=False)

    def forward(self, z_rc: Tensor) -> Tensor:
        """(r, c) -> (r, d)."""
        return self.mix(z_rc, self.inwards.weight, self.inwards.bias)

    def mix(self, z_rc: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """(r, c) -> (r, d), with `inwards`' weight and bias or what an export puts in their place."""
        p = self.n_products
        linear, one, other = products(z_rc, weight, bias, [self.outwards.out_features, p, p])
        return onto(linear, one * other, self.outwards.weight)


class Mixing(nn.Module):
    """Attention over the last hours and leaky memories of all hours, side by side, with one projection in and one out."""

    gate: Tensor
    lag: Tensor
    is_hidden: Tensor
    until: Tensor
    until_by_memory: Tensor
    shared: Tensor

    def __init__(self, config: NetworkConfig, n_heads: int) -> None:
        super().__init__()
        c = config
        self.n_heads, self.head_width, self.block_h = n_heads, c.head_width, c.block_h
        self.n_memories, self.memory_width = c.n_memories, c.memory_width
        self.attended = n_heads * c.head_width
        self.remembered = c.n_memories * c.memory_width
        self.least_decay = math.exp(-LONGEST_EXPONENT / c.block_h)
        self.inwards = nn.Linear(c.d_model, 3 * self.attended + self.remembered + c.n_memories)
        self.outwards = nn.Linear(self.attended + self.remembered, c.d_model, bias=False)
        self.lag_bias = nn.Parameter(torch.zeros(n_heads, 2 * c.block_h))
        self.register_buffer("gate", torch.ones(n_heads))
        steps = torch.arange(c.block_h)
        lag = steps[:, None] + c.block_h - torch.arange(2 * c.block_h)[None, :]  # hour of the query minus hour of the key
        self.register_buffer("is_hidden", lag < 0, persistent=False)
        self.register_buffer("lag", lag.clamp(min=0), persistent=False)
        # Constant matrices: the sum over the hours of a block up to each; the same of a block as one row, memory by memory, which
        # is one product instead of many small ones; a number per memory for each of its integrators.
        self.register_buffer("until", torch.ones(c.block_h, c.block_h).tril(), persistent=False)
        self.register_buffer(
            "until_by_memory", torch.kron(torch.ones(c.block_h, c.block_h).triu(), torch.eye(c.n_memories)), persistent=False
        )
        self.register_buffer("shared", torch.eye(c.n_memories).repeat_interleave(c.memory_width, dim=1), persistent=False)
        # softplus(bias) = 1 / tau: the memories start spread evenly over the logarithm of the time constant.
        tau = torch.logspace(math.log10(c.tau_h[0]), math.log10(c.tau_h[1]), max(c.n_memories, 1))
        with torch.no_grad():
            if c.n_memories:
                self.inwards.bias[-c.n_memories :] = torch.log(torch.expm1(1 / tau[: c.n_memories]))
            # Each head starts with a preference for the near past, steeper from head to head.
            slope = torch.pow(2.0, -torch.arange(1, n_heads + 1))
            self.lag_bias.copy_(-slope[:, None] * torch.arange(2 * c.block_h))

    def forward(self, stream_rd: Tensor, x_rd: Tensor, state_bs: Tensor) -> tuple[Tensor, Tensor]:
        """The stream, what is read of it (r, d) and (b, s) -> the stream (r, d) with rows r = b * n * l, and the state after the
        last block, (b, s).
        """
        a, r, g, b = self.attended, self.remembered, self.n_memories, state_bs.shape[0]
        parts = products(x_rd, self.inwards.weight, self.inwards.bias, [a, 2 * a, r, g])
        q, kv, u, w = (part.reshape(b, -1, self.block_h, part.shape[-1]) for part in parts)
        past_kv, memory = torch.split(state_bs, [2 * self.block_h * a, r], dim=-1)
        mixed = []
        if a:
            mixed += self._attend(q, kv, past_kv.reshape(b, 1, -1, 2 * a))
        if r:
            remembered, memory = self._remember(u, w, memory)
            mixed.append(remembered)
        columns = torch.cat([self.gate.repeat_interleave(self.head_width), torch.ones(r, device=x_rd.device)])
        flat = torch.cat(mixed, dim=-1).reshape(-1, a + r)
        left = torch.cat([kv[:, -1].reshape(b, -1), memory], dim=-1)
        return onto(stream_rd, flat, self.outwards.weight * columns), left

    def _attend(self, q: Tensor, kv: Tensor, past_kv: Tensor) -> list[Tensor]:
        """Queries (b, n, l, h*e), keys and values side by side (b, n, l, 2*h*e), those of the block before the first
        (b, 1, l, 2*h*e) -> of each head (b*n, l, e).
        """
        block, h, e = self.block_h, self.n_heads, self.head_width
        # Head by head: a head's columns are a matrix as they stand, where all heads at once would need transposed copies.
        # Each block with the one before it: one copy by index where concatenating shifted blocks takes three.
        pairs = (torch.arange(kv.shape[1], device=kv.device)[:, None] + torch.arange(2, device=kv.device)).reshape(-1)
        kv = torch.cat([past_kv, kv], dim=1).flatten(2).index_select(1, pairs).reshape(-1, 2 * block, 2 * h * e)
        queries, keys_values = torch.split(q.reshape(-1, block, h * e), e, dim=-1), torch.split(kv, e, dim=-1)
        bias = self.lag_bias[:, self.lag].masked_fill(self.is_hidden, FAR)  # (h, l, 2l)
        heads = []
        for i in range(h):
            scores = queries[i] @ keys_values[i].transpose(1, 2) * e**-0.5 + bias[i]
            heads.append(torch.sigmoid(scores) @ keys_values[h + i])
        return heads

    def _remember(self, u: Tensor, w: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (b, n, l, g*m), raw decays (b, n, l, g), memories before the first hour (b, g*m) -> memories after every hour
        (b*n, l, g*m), and after the last (b, g*m).
        """
        b, n, block, r = u.shape
        u, w = u.reshape(-1, block, r), w.reshape(-1, block, self.n_memories)
        # Within a block s_t = A_t (sum over i <= t of (1 - a_i) u_i / A_i), A_t = a_1 ... a_t: products with a constant matrix
        # instead of a matrix of decays per memory. a is kept so far above zero that A_t and 1 / A_t are float32 numbers.
        a = torch.sigmoid(-w).clamp(min=self.least_decay)
        since = (torch.log(a).reshape(-1, block * self.n_memories) @ self.until_by_memory).reshape(a.shape)  # log A, (b*n, l, g)
        fade = torch.exp(since) @ self.shared  # (b*n, l, g*m)
        grown = self.until @ (u * (((1 - a) * torch.exp(-since)) @ self.shared))
        # Over blocks: what each block adds, and the past before them, fade from one start of a block to a later one.
        ends = (grown[:, -1] * fade[:, -1]).reshape(b, n, r)
        added = torch.cat([past.reshape(b, 1, r), ends], dim=1)
        added = added.reshape(b, n + 1, self.n_memories, -1).transpose(1, 2)  # (b, g, n + 1, m)
        whole = since[:, -1].reshape(b, n, -1)
        before = F.pad(whole, (0, 0, 1, 0)).cumsum(dim=1).transpose(1, 2)  # log decay up to each start, (b, g, n + 1)
        order = torch.arange(n + 1, device=u.device)
        # Bounded below: `Exp` of ONNX Runtime is ten times slower where its results are no normal numbers.
        fading = (before.unsqueeze(-1) - before.unsqueeze(-2)).clamp(-LONGEST_EXPONENT, 0.0)
        faded = torch.exp(fading) * (order[None, :] <= order[:, None]).to(u.dtype)
        at_start = (faded @ added).transpose(1, 2).reshape(b, n + 1, r)
        return fade * (grown + at_start[:, :-1].reshape(-1, 1, r)), at_start[:, -1]


class FeedForward(nn.Module):
    """d -> f -> d, with a gate per unit."""

    gate: Tensor

    def __init__(self, d_model: int, n_units: int) -> None:
        super().__init__()
        self.inwards = nn.Linear(d_model, n_units)
        self.outwards = nn.Linear(n_units, d_model, bias=False)
        self.register_buffer("gate", torch.ones(n_units))

    def forward(self, stream_rd: Tensor, x_rd: Tensor) -> Tensor:
        """The stream and what is read of it, (r, d) -> the stream (r, d)."""
        return onto(stream_rd, F.relu(self.inwards(x_rd)), self.outwards.weight * self.gate)


class Layer(nn.Module):
    """Mixing over time, then feed-forward; both read a normalised stream and add to it."""

    def __init__(self, config: NetworkConfig, n_heads: int, n_ffn: int) -> None:
        super().__init__()
        self.norm_mixing: nn.Module = nn.LayerNorm(config.d_model)
        self.mixing = Mixing(config, n_heads)
        self.norm_ffn: nn.Module = nn.LayerNorm(config.d_model)
        self.ffn = FeedForward(config.d_model, n_ffn)

    def forward(self, x: Tensor, state_bs: Tensor) -> tuple[Tensor, Tensor]:
        """(r, d), (b, s) -> (r, d) with rows r = b * n * l, and the state after the last block, (b, s)."""
        x, state_bs = self.mixing(x, self.norm_mixing(x), state_bs)
        return self.ffn(x, self.norm_ffn(x)), state_bs


class Network(nn.Module):
    """Weather, occupancy, parameters and settings in; temperatures, CO2, humidity and powers out; hour by hour, causal."""

    gate: Tensor

    def __init__(self, inputs: Signature, outputs: Signature, config: NetworkConfig) -> None:
        super().__init__()
        self.inputs, self.outputs, self.config = inputs, outputs, config
        self.scaling = Scaling(inputs, outputs)
        self.register_buffer("gate", torch.ones(len(inputs)))
        self.embedding = Embedding(len(inputs), config)
        self.layers = nn.ModuleList(Layer(config, h, f) for h, f in zip(config.n_heads, config.n_ffn, strict=True))
        self.norm: nn.Module = nn.LayerNorm(config.d_model)
        self.head = nn.Linear(config.d_model, len(outputs))
        for layer in self.layers:  # a residual branch starts small, so that a fresh network is nearly its embedding
            for branch in (layer.mixing.outwards, layer.ffn.outwards):  # type: ignore[union-attr]
                nn.init.normal_(branch.weight, std=0.02 / math.sqrt(2 * config.n_layers))  # type: ignore[union-attr, arg-type]

    def latent(self, x_btc: Tensor) -> Tensor:
        """Return what the head says before decoding, (b, t, c) -> (b, t, o); any t, padded inside to whole blocks."""
        stream, _ = self.run(x_btc, self.no_past(x_btc.shape[0]), self.enter)
        latent: Tensor = self.head(stream)
        return latent.reshape(x_btc.shape[0], -1, len(self.outputs))[:, : x_btc.shape[1]]

    def forward(self, x_btc: Tensor) -> Tensor:
        """Predict, physical units: (b, t, inputs) -> (b, t, outputs)."""
        return self.scaling.decode(self.latent(x_btc))

    def no_past(self, n_batch: int) -> Tensor:
        """Return the state before the first hour, (b, s)."""
        return torch.zeros(n_batch, sum(self.config.n_state), device=self.gate.device)

    def enter(self, x_rc: Tensor) -> Tensor:
        """Embed hours in physical units: (r, c) -> (r, d)."""
        return torch.as_tensor(self.embedding(self.scaling.encode(x_rc) * self.gate))

    def run(self, x_btc: Tensor, state_bs: Tensor, enter: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Return the normalised residual stream, (r, d) with rows r = b * n * l, and the state after the last block, (b, s).

        That state is the one after hour t only where t is a whole number of blocks.

        Args:
            x_btc: physical units, any t; the last hour is repeated to fill its block, which changes nothing before it.
            state_bs: what earlier hours left.
            enter: `enter`, or what an export puts in its place.
        """
        b, t, c = x_btc.shape
        block = self.config.block_h
        n = (t + block - 1) // block
        x_btc = torch.cat([x_btc, x_btc[:, -1:].expand(b, block - 1, c)], dim=1)[:, : n * block]
        # Rows instead of (batch, time): every linear layer becomes one matrix product with its bias inside.
        x = enter(x_btc.reshape(-1, c))
        left = []
        for layer, state in zip(self.layers, torch.split(state_bs, list(self.config.n_state), dim=-1), strict=True):
            x, state = layer(x, state)
            left.append(state)
        return self.norm(x), torch.cat(left, dim=-1)


def n_weights(network: nn.Module) -> int:
    """Return the number of trained weights."""
    return sum(p.numel() for p in network.parameters())
