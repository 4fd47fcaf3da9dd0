"""The published architecture of Cohen et al. (HAL hal-02873577; ../shared/reference/methods.md, section 1).

Four encoder and four decoder layers, d_model 64, 8 heads with q = v = 8, feed-forward 2048, attention over the 12 hours before
and after, no positional encoding, linear embedding, normalisation after each residual sum. It looks 12 hours ahead in every
attention: it is not causal and cannot carry a state. Computed in blocks of 12 hours, which gives what the full masked matrix
gives (a test says so) and is several times cheaper. Dropout is left out.

`Cohen` has our head, scaling and loss; `CohenPublished` their sigmoid, min-max scaling and loss.
Legend of shapes: b batch, n blocks, l hours of a block, t time [h], h heads, e width of a head, d width, c inputs, o outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from building.units import TEMPERATURE
from building.variables import Role, Signature
from models.network import FAR, Scaling

WINDOW_H = 12
N_HEADS, HEAD_WIDTH, D_MODEL, N_FFN, N_LAYERS = 8, 8, 64, 2048, 4


class Attention(nn.Module):
    """Each hour looks at the hours at most `WINDOW_H` before and after it, in its own stream or in another one."""

    is_far: Tensor

    def __init__(self) -> None:
        super().__init__()
        a = N_HEADS * HEAD_WIDTH
        self.inwards = nn.Linear(D_MODEL, a)
        self.other_inwards = nn.Linear(D_MODEL, 2 * a)
        self.outwards = nn.Linear(a, D_MODEL)
        lag = torch.arange(WINDOW_H)[:, None] + WINDOW_H - torch.arange(3 * WINDOW_H)[None, :]
        self.register_buffer("is_far", FAR * (lag.abs() > WINDOW_H).float(), persistent=False)

    def forward(self, x_btd: Tensor, other_btd: Tensor, outside: Tensor) -> Tensor:
        """(b, t, d) twice, t in whole blocks -> (b, t, d); `outside` is `FAR` where hour (block, hour) is no hour of the
        window, shape (n, 1, 1, 3l).
        """
        b, t, _ = x_btd.shape
        heads = (b, t // WINDOW_H, WINDOW_H, N_HEADS, HEAD_WIDTH)
        q = self.inwards(x_btd).reshape(heads).transpose(2, 3)  # (b, n, h, l, e)
        k, v = self.other_inwards(other_btd).chunk(2, dim=-1)
        k, v = (_with_neighbours(s.reshape(heads)).transpose(2, 3) for s in (k, v))  # (b, n, h, 3l, e)
        scores = q @ (k * HEAD_WIDTH**-0.5).transpose(-1, -2) + self.is_far + outside
        attended = (scores.softmax(dim=-1) @ v).transpose(2, 3)
        return torch.as_tensor(self.outwards(attended.reshape(b, t, N_HEADS * HEAD_WIDTH)))


def _with_neighbours(s: Tensor) -> Tensor:
    """(b, n, l, ...) -> (b, n, 3l, ...): each block between the one before and the one after; zeros beyond both ends."""
    rest = (0, 0) * (s.dim() - 2)
    return torch.cat([F.pad(s[:, :-1], (*rest, 1, 0)), s, F.pad(s[:, 1:], (*rest, 0, 1))], dim=2)


def beyond(n_blocks: int, t: int) -> Tensor:
    """Return `FAR` where a block's neighbourhood reaches before hour 0 or to hour `t` and later, else 0, shape (n, 1, 1, 3l)."""
    hours = torch.arange(n_blocks * WINDOW_H).reshape(1, n_blocks, WINDOW_H)
    is_hour = _with_neighbours((hours < t).float())
    return (FAR * (1 - is_hour)).reshape(n_blocks, 1, 1, 3 * WINDOW_H)


class FeedForward(nn.Module):
    """d -> 2048 -> d."""

    def __init__(self) -> None:
        super().__init__()
        self.inwards = nn.Linear(D_MODEL, N_FFN)
        self.outwards = nn.Linear(N_FFN, D_MODEL)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return torch.as_tensor(self.outwards(F.relu(self.inwards(x))))


class Layer(nn.Module):
    """Attention to itself, in a decoder also to the encoder's end, then feed-forward."""

    def __init__(self, is_decoder: bool) -> None:
        super().__init__()
        self.to_self = Attention()
        self.to_encoded = Attention() if is_decoder else None
        self.ffn = FeedForward()
        self.norms = nn.ModuleList(nn.LayerNorm(D_MODEL) for _ in range(3 if is_decoder else 2))

    def forward(self, x: Tensor, encoded: Tensor, outside: Tensor) -> Tensor:
        """(b, t, d) -> (b, t, d)."""
        x = self.norms[0](x + self.to_self(x, x, outside))
        if self.to_encoded is not None:
            x = self.norms[1](x + self.to_encoded(x, encoded, outside))
        return torch.as_tensor(self.norms[-1](x + self.ffn(x)))


class Cohen(nn.Module):
    """Their layers between our scaling and our head."""

    def __init__(self, inputs: Signature, outputs: Signature) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.scaling = Scaling(inputs, outputs)
        self.embedding = nn.Linear(len(inputs), D_MODEL)
        self.layers = nn.ModuleList(Layer(is_decoder=i >= N_LAYERS) for i in range(2 * N_LAYERS))
        self.head = nn.Linear(D_MODEL, len(outputs))

    def latent(self, x_btc: Tensor) -> Tensor:
        """Return what the head says before decoding, (b, t, c) -> (b, t, o)."""
        t = x_btc.shape[1]
        n = (t + WINDOW_H - 1) // WINDOW_H
        x = F.pad(self.embedding(self.scaling.encode(x_btc)), (0, 0, 0, WINDOW_H - 1))[:, : n * WINDOW_H]
        outside = beyond(n, t)
        encoded = x
        for layer in self.layers[:N_LAYERS]:
            encoded = layer(encoded, encoded, outside)
        decoded = encoded
        for layer in self.layers[N_LAYERS:]:
            decoded = layer(decoded, encoded, outside)
        return torch.as_tensor(self.head(decoded)[:, :t])

    def forward(self, x_btc: Tensor) -> Tensor:
        """Predict, physical units: (b, t, c) -> (b, t, o)."""
        return self.scaling.decode(self.latent(x_btc))


class CohenPublished(Cohen):
    """Their sigmoid between each output's least and greatest training value, and their loss."""

    low: Tensor
    high: Tensor

    def __init__(self, inputs: Signature, outputs: Signature) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("low", torch.zeros(len(outputs)))
        self.register_buffer("high", torch.ones(len(outputs)))
        self.zones = outputs.positions(outputs.having(Role.INDOOR, quantity=TEMPERATURE).names)
        self.others = [o for o in range(len(outputs)) if o not in self.zones]

    def fit_range(self, y_nto: Tensor) -> None:
        """Take least and greatest values from training data."""
        self.low.copy_(y_nto.amin(dim=(0, 1)))
        self.high.copy_(torch.maximum(y_nto.amax(dim=(0, 1)), self.low + 1e-6))

    def forward(self, x_btc: Tensor) -> Tensor:
        """Predict, physical units: (b, t, c) -> (b, t, o)."""
        return self.low + (self.high - self.low) * torch.sigmoid(self.latent(x_btc))

    def loss(self, z_bto: Tensor, y_bto: Tensor) -> Tensor:
        """Return log(1 + MSE_T) + 0.3 log(1 + MSE_Q) on outputs scaled to 0..1; T zone temperatures, Q all others."""
        wanted = (y_bto - self.low) / (self.high - self.low)
        square = torch.square(torch.sigmoid(z_bto) - wanted)
        return torch.log1p(square[..., self.zones].mean()) + 0.3 * torch.log1p(square[..., self.others].mean())
