"""OnnxPredictor: a bundle that answers. building + onnxruntime only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from building.checks import check_bounds
from building.errors import BadBundleError
from building.predictor import GivenPast, Predictor, check_batch
from building.scenario import Scenario
from building.variables import Signature
from models.runtime.bundle import Bundle

Array = NDArray[np.float64]

# Hours (batch x time) per call of the graph. Small on purpose: the activations of 1,700 h stay in the cache, which is faster
# than one large call, and memory stays bounded whatever batch a search asks for.
CHUNK_H = 1700


class OnnxPredictor:
    """A Predictor that runs a bundle's graph."""

    def __init__(self, bundle: Bundle, n_threads: int = 1) -> None:
        """Open the graph.

        Args:
            bundle: a verified bundle.
            n_threads: chunks of a batch answered at the same time, each on one core.

        Raises:
            BadBundleError: onnxruntime cannot read the graph, or its inputs are not those of bundle.json.
        """
        self.bundle = bundle
        self.inputs: Signature = bundle.inputs
        self.outputs: Signature = bundle.outputs
        self.n_threads = n_threads
        self._session = open_graph(bundle.graph)
        width = self._session.get_inputs()[0].shape[2]
        if width != len(self.inputs):
            raise BadBundleError(path=bundle.folder, reason=f"the graph has {width} inputs, bundle.json {len(self.inputs)}.")

    def predict(self, x_btc: Array) -> Array:
        """Predict a batch, shape (batch, time, inputs) -> (batch, time, outputs), physical units.

        Raises:
            ShapeError: another number of dimensions or inputs.
            OutsideTrainingBoundsError, NotFiniteError: a value the network was never shown; see `checks.check_bounds`.
        """
        check_batch(x_btc, self.inputs)
        check_bounds(x_btc, self.inputs)
        return run_graph(self._session, x_btc, len(self.outputs), self.n_threads)

    def given(self, past: Scenario) -> Predictor:
        """Fix past and parameters; the result predicts futures only."""
        return GivenPast(self, past)


def open_graph(path: Path) -> ort.InferenceSession:
    """Open an ONNX graph on the CPU; each call runs on one core. Raises BadBundleError."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime raises classes of its own that derive from Exception only
        raise BadBundleError(path=path, reason=f"onnxruntime cannot read the graph: {str(e)[:300]}") from e


def run_graph(session: ort.InferenceSession, x_btc: NDArray[np.floating[Any]], n_outputs: int, n_threads: int = 1) -> Array:
    """Run a graph over a batch in chunks of about `CHUNK_H` hours, (b, t, c) -> (b, t, o)."""
    n, t, _ = x_btc.shape
    y_bto = np.empty((n, t, n_outputs))
    if y_bto.size == 0:
        return y_bto
    size = max(1, CHUNK_H // t)
    name = session.get_inputs()[0].name

    def answer(first: int) -> None:
        chunk = np.ascontiguousarray(x_btc[first : first + size], dtype=np.float32)
        y_bto[first : first + size] = session.run(None, {name: chunk})[0]

    starts = range(0, n, size)
    if n_threads > 1 and len(starts) > 1:
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(answer, starts))
    else:
        for first in starts:
            answer(first)
    return y_bto
