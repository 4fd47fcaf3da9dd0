"""From torch to a bundle. torch ends here."""

from __future__ import annotations

import json
import logging
import re
import warnings
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from models.network import LEAST_LOGGED, Layer, Network, n_weights, onto
from models.runtime.bundle import CARD, GRAPH, MANIFEST, SCHEMA_VERSION, Bundle, load_bundle, sha256
from models.runtime.session import INPUTS, OUTPUTS, open_graph, run_graph

OPSET = 23
"""Of the graph: the first with `RMSNormalization`. Needs onnxruntime 1.23, as pyproject.toml says."""


class Deployed(nn.Module):
    """A network as a gateway runs it: from a state to a state, with the scaling of inputs and outputs inside the weights.

    Inputs that are fed as logarithms have a column of weights of their own, so that no logarithm is taken of the others; outputs
    that are squared have rows of their own. The answers are those of the network up to rounding; `graph_gap` measures it.
    """

    logged: Tensor
    entrance: Tensor
    entrance_bias: Tensor
    straight: Tensor
    straight_bias: Tensor
    squared: Tensor
    squared_bias: Tensor
    placed: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = centred(network)
        s, embedding, head = self.network.scaling, self.network.embedding.inwards, self.network.head
        is_log = s.is_log
        # W ((x - mean) / std * gate) + bias, in double precision: means may be large beside their spread.
        weight = embedding.weight.double() * (self.network.gate.double() / s.std.double())
        self.register_buffer("logged", is_log.nonzero().flatten())
        self.register_buffer("entrance", torch.cat([weight * ~is_log, weight[:, is_log]], dim=1).float())
        self.register_buffer("entrance_bias", (embedding.bias.double() - weight @ s.mean.double()).float())
        # offset + scale z, or offset + scale relu(z)**2 = offset + relu(sqrt(scale) z)**2, each square put in its output's place.
        scale = torch.where(s.is_squared, 0.0, s.scale)
        self.register_buffer("straight", head.weight * scale[:, None])
        self.register_buffer("straight_bias", head.bias * scale + s.offset)
        root = s.scale[s.is_squared].sqrt()
        self.register_buffer("squared", head.weight[s.is_squared] * root[:, None])
        self.register_buffer("squared_bias", head.bias[s.is_squared] * root)
        self.register_buffer("placed", torch.eye(len(s.is_squared))[:, s.is_squared])

    def enter(self, x_rc: Tensor) -> Tensor:
        """Embed hours in physical units: (r, c) -> (r, d)."""
        wide = torch.cat([x_rc, torch.log(x_rc[:, self.logged].clamp(min=LEAST_LOGGED))], dim=-1)
        return self.network.embedding.mix(wide, self.entrance, self.entrance_bias)

    def forward(self, x_btc: Tensor, state_bs: Tensor) -> tuple[Tensor, Tensor]:
        """(b, t, inputs), (b, s) -> (b, t, outputs), and the state left, (b, s); see `Network.run`."""
        stream, state_bs = self.network.run(x_btc, state_bs, self.enter)
        y_ro = F.linear(stream, self.straight, self.straight_bias)
        if len(self.squared):
            # A product, since a square is exported as a power, which takes longer.
            root_ro = F.relu(F.linear(stream, self.squared, self.squared_bias))
            y_ro = onto(y_ro, root_ro * root_ro, self.placed)
        return y_ro.reshape(x_btc.shape[0], -1, len(self.straight))[:, : x_btc.shape[1]], state_bs


def centred(network: Network) -> Network:
    """Return the same network with root-mean-square norms, which ONNX Runtime computes in two thirds of the time.

    All that is written to the residual stream is written less its mean over the stream, so that the stream has none, and a layer
    norm without its bias is a root-mean-square norm; the bias goes through the weights that read the norm into theirs.
    """
    network = deepcopy(network)
    layers = [layer for layer in network.layers if isinstance(layer, Layer)]

    def without_mean(written: Tensor) -> None:
        written.sub_(written.mean(dim=0))

    def rms(norm: nn.Module, reader: nn.Linear) -> nn.RMSNorm:
        assert isinstance(norm, nn.LayerNorm)  # for the type checker
        reader.bias.add_(reader.weight @ norm.bias)
        replaced = nn.RMSNorm(norm.normalized_shape, eps=norm.eps)
        replaced.weight.copy_(norm.weight)
        return replaced

    with torch.no_grad():
        embedding, d = network.embedding, network.config.d_model
        without_mean(embedding.inwards.weight[:d])
        without_mean(embedding.inwards.bias[:d])
        without_mean(embedding.outwards.weight)
        for layer in layers:
            without_mean(layer.mixing.outwards.weight)
            without_mean(layer.ffn.outwards.weight)
            layer.norm_mixing = rms(layer.norm_mixing, layer.mixing.inwards)
            layer.norm_ffn = rms(layer.norm_ffn, layer.ffn.inwards)
        network.norm = rms(network.norm, network.head)
    return network


def export_graph(network: Network, path: Path) -> None:
    """Write a network as one ONNX file, float32, physical units, any batch and time: (batch, time, inputs) and a state
    (batch, s) -> (batch, time, outputs) and the state left (batch, s).
    """
    network = network.cpu().eval()
    # Sizes unlike each other and unlike a block, so that no dimension is taken for a constant.
    example = torch.zeros(3, 2 * network.config.block_h + 5, len(network.inputs))
    any_batch = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # that torchvision is not there helps nobody who trains
        program = torch.onnx.export(
            Deployed(network),
            (example, network.no_past(len(example))),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=({0: any_batch, 1: torch.export.Dim.DYNAMIC}, {0: any_batch}),
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            verbose=False,
        )
    assert program is not None  # for the type checker: dynamo=True always returns one
    # The exporter writes beside each node which line of which file on this machine it comes from: a third of the file, and
    # nobody's business. Without it the same weights are the same bytes wherever they are exported.
    graph = program.model.graph
    for noted in (graph, *graph, *(value for node in graph for value in node.outputs)):
        noted.metadata_props.clear()
    program.save(str(path))


def graph_gap(network: Network, path: Path, x_btc: NDArray[np.floating[Any]]) -> float:
    """Return the largest difference between torch and onnxruntime over a batch, each output in units of its scale."""
    with torch.no_grad():
        by_torch = network(torch.as_tensor(np.asarray(x_btc, dtype=np.float32))).numpy()
    by_ort = run_graph(open_graph(path), x_btc, len(network.outputs))
    return float((np.abs(by_ort - by_torch) / network.scaling.scale.numpy()).max())


def write_bundle(
    network: Network,
    folder: Path,
    *,
    building: str,
    warm_up_h: int,
    origin: dict[str, Any],
    accuracy: dict[str, float],
    by_output: dict[str, dict[str, float]],
    core_hours: dict[str, float],
    graph_gap: float,
    training: dict[str, Any],
    intervals: dict[str, Any] | None = None,
) -> Bundle:
    """Write card and bundle.json beside an exported graph; bundle.json last, so that a folder with one is whole.

    Args:
        network: what was exported; its signatures become the bundle's.
        folder: holds graph.onnx already.
        building, warm_up_h, origin, accuracy, core_hours: see `Bundle`.
        by_output: figures of every output.
        graph_gap: see `graph_gap`.
        training: how it was trained, plain JSON data.
        intervals: `Intervals.to_dict`, with what was measured of them; None for a bundle without.
    """
    facts = {
        "schema_version": SCHEMA_VERSION,
        "building": building,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "warm_up_h": warm_up_h,
        "n_weights": n_weights(network),
        "network": network.config.to_dict(),
        "accuracy": _finite(accuracy),
        "accuracy_by_output": {name: _finite(figures) for name, figures in by_output.items()},
        "core_hours": core_hours,
        "graph_gap": graph_gap,
        "training": training,
        "origin": origin,
        "inputs": network.inputs.to_list(),
        "outputs": network.outputs.to_list(),
        **({} if intervals is None else {"intervals": intervals}),
    }
    (folder / CARD).write_text(_card(facts), encoding="utf-8")
    facts["sha256"] = {file: sha256(folder / file) for file in (GRAPH, CARD)}
    write_manifest(folder, facts)
    return load_bundle(folder)


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Write bundle.json: one fact a line, but a list of numbers on one line."""
    text = json.dumps(facts, indent=1, allow_nan=False)
    text = re.sub(r"\[\s+([-+.\deE,\s]+?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _finite(figures: dict[str, float]) -> dict[str, float]:
    """Leave out what could not be judged (nan is no JSON)."""
    return {name: round(float(value), 6) for name, value in figures.items() if np.isfinite(value)}


def _of_intervals(intervals: dict[str, Any] | None) -> list[str]:
    """Return the card's paragraph on prediction intervals, nothing for a bundle without."""
    if intervals is None or not intervals["cross_fit_coverage"]:
        return []
    shares = intervals["cross_fit_coverage"].values()
    return [
        "## How sure it is",
        "",
        f"Prediction intervals hold {intervals['nominal']:.0%} of the hours of a run like those of the campaign: on the "
        f"{intervals['runs']} validation runs, each judged by intervals fitted to the others, {min(shares):.1%} to "
        f"{max(shares):.1%} by output. Of a real building they say less: it differs from every simulated one.",
        "",
    ]


def _card(facts: dict[str, Any]) -> str:
    """Return the card: what, from which campaign, how good, where it fails."""
    accuracy, by_output, training, origin = facts["accuracy"], facts["accuracy_by_output"], facts["training"], facts["origin"]
    worst = sorted(by_output, key=lambda name: by_output[name].get("r2", 1.0))[:5]
    lines = [
        f"# Metamodel of {facts['building']}",
        "",
        f"A causal Transformer with {facts['n_weights']:,} weights ({training.get('n_weights_dense', 0):,} before pruning), "
        f"hourly, {len(facts['inputs'])} inputs and {len(facts['outputs'])} outputs. Give it at least {facts['warm_up_h']} h of "
        "past before the hours that matter, and stay inside the bounds of the inputs in bundle.json.",
        "",
        f"Made {facts['created']}. Core-hours: "
        + ", ".join(f"{what} {hours:.2f}" for what, hours in facts["core_hours"].items())
        + f". Largest difference between torch and ONNX Runtime: {facts['graph_gap']:.1e} of an output's scale.",
        "",
        "## From which data",
        "",
        *(f"- {key}: {value}" for key, value in origin.items() if not isinstance(value, (dict, list))),
        f"- inputs found unnecessary: {', '.join(training.get('pruned_inputs', [])) or 'none'}",
        "",
        "## How good, on the validation split of the campaign",
        "",
        "| figure | value |",
        "|---|---|",
        *(f"| {name} | {value:.4g} |" for name, value in accuracy.items()),
        "",
        "| output | RMSE | R2 | total error, median | worst |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {f['rmse']:.4g} | {f.get('r2', float('nan')):.3f} "
            f"| {f['total_error_median']:.3f} | {f['total_error_worst']:.3f} |"
            for name, f in by_output.items()
        ),
        "",
        *_of_intervals(facts.get("intervals")),
        "## Where it fails",
        "",
        f"- least explained outputs: {', '.join(worst)};",
        f"- worst total of any output in any run: {accuracy.get('total_error_worst', float('nan')):.0%} off;",
        "- outside the input bounds it would answer confidently and wrongly, so it refuses to;",
        "- it knows one building: the reference model of the campaign and its parameters, no other geometry.",
        "",
    ]
    return "\n".join(lines)
