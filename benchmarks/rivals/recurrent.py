"""GRU, and causal convolutions before one (ConvGRU). Legend of shapes: b batch, t time [h], c inputs, d channels, o outputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from building.variables import Signature
from models.network import Scaling


class Gru(nn.Module):
    """Linear embedding, ReLU, a GRU, and a head of one hidden layer that also reads the hour's embedding: loads follow the
    hour's settings at once, and need no memory for that.
    """

    def __init__(self, inputs: Signature, outputs: Signature, width: int = 64, n_units: int = 112) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.scaling = Scaling(inputs, outputs)
        self.embedding = nn.Linear(len(inputs), width)
        self.gru = nn.GRU(width, n_units, batch_first=True)
        self.hidden = nn.Linear(n_units + width, n_units)
        self.head = nn.Linear(n_units, len(outputs))

    def embed(self, z_btc: Tensor) -> Tensor:
        """(b, t, c) -> (b, t, d)."""
        return F.relu(self.embedding(z_btc))

    def latent(self, x_btc: Tensor) -> Tensor:
        """Return what the head says before decoding, (b, t, c) -> (b, t, o)."""
        z_btd = self.embed(self.scaling.encode(x_btc))
        states = self.gru(z_btd)[0]
        return torch.as_tensor(self.head(F.relu(self.hidden(torch.cat([states, z_btd], dim=-1)))))

    def forward(self, x_btc: Tensor) -> Tensor:
        """Predict, physical units: (b, t, c) -> (b, t, o)."""
        return self.scaling.decode(self.latent(x_btc))


class ConvGru(Gru):
    """The same, with two causal convolutions over five hours each in place of the embedding: nine hours are seen at once."""

    kernel_h = 5

    def __init__(self, inputs: Signature, outputs: Signature, width: int = 64, n_units: int = 96) -> None:
        super().__init__(inputs, outputs, width, n_units)
        self.embedding = nn.Conv1d(len(inputs), width, self.kernel_h)
        self.second = nn.Conv1d(width, width, self.kernel_h)

    def embed(self, z_btc: Tensor) -> Tensor:
        """(b, t, c) -> (b, t, d); hours before the first count as zero."""
        past = (self.kernel_h - 1, 0)
        z = F.relu(self.embedding(F.pad(z_btc.transpose(1, 2), past)))
        return F.relu(self.second(F.pad(z, past))).transpose(1, 2)
