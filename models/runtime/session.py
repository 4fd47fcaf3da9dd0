"""OnnxPredictor: a bundle that answers. building + onnxruntime only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from building.checks import check_bounds
from building.errors import BadBundleError
from building.predictor import check_batch, check_past
from building.scenario import Scenario
from building.variables import Signature
from models.runtime.bundle import Bundle

Array = NDArray[np.float64]

# Hours (batch x time) per call of the graph. Small on purpose: the activations of 1,700 h stay in the cache, which is faster
# than one large call, and memory stays bounded whatever batch a search asks for.
CHUNK_H = 1700

INPUTS, OUTPUTS = ("x_btc", "state_bs"), ("y_bto", "left_bs")


class OnnxPredictor:
    """A Predictor that runs a bundle's graph, from the state its past has left (zero where none is given)."""

    def __init__(self, bundle: Bundle, n_threads: int = 1) -> None:
        """Open the graph.

        Args:
            bundle: a verified bundle.
            n_threads: chunks of a batch answered at the same time, each on one core.

        Raises:
            BadBundleError: onnxruntime cannot read the graph, or its inputs or outputs are not those of bundle.json.
        """
        self.bundle = bundle
        self.inputs: Signature = bundle.inputs
        self.outputs: Signature = bundle.outputs
        self.n_threads = n_threads
        self._session = open_graph(bundle.graph)
        found = [i.name for i in self._session.get_inputs()], [o.name for o in self._session.get_outputs()]
        if found != (list(INPUTS), list(OUTPUTS)):
            raise BadBundleError(
                path=bundle.folder, reason=f"the graph has inputs and outputs {found}, not {INPUTS} and {OUTPUTS}."
            )
        width = self._session.get_inputs()[0].shape[2]
        if width != len(self.inputs):
            raise BadBundleError(path=bundle.folder, reason=f"the graph has {width} inputs, bundle.json {len(self.inputs)}.")
        self._past: Scenario | None = None
        self._rest_tc = np.empty((0, width))  # hours of the past that fill no block yet
        self._state_s = no_past(self._session)  # what the hours before them left

    def predict(self, x_btc: Array) -> Array:
        """Predict a batch, shape (batch, time, inputs) -> (batch, time, outputs), physical units.

        Raises:
            ShapeError: another number of dimensions or inputs.
            OutsideTrainingBoundsError, NotFiniteError: a value the network was never shown; see `checks.check_bounds`.
        """
        check_batch(x_btc, self.inputs)
        check_bounds(x_btc, self.inputs)
        rest = len(self._rest_tc)
        if rest:
            x_btc = np.concatenate([np.broadcast_to(self._rest_tc, (len(x_btc), *self._rest_tc.shape)), x_btc], axis=1)
        return run_graph(self._session, x_btc, len(self.outputs), self.n_threads, self._state_s)[:, rest:]

    def given(self, past: Scenario) -> OnnxPredictor:
        """Fix the past; the result predicts futures only, as whole windows would up to rounding
        (2e-5 of an output's spread over days; 4e-5 was seen over thirteen weeks).

        The past is computed here, once, up to its last whole block; the hours left over (at most `block_h` - 1) go before every
        future. Parameters are channels like any other: those of the past count in the past, and each future brings its own.

        Raises:
            ShapeError: the past has other inputs, or the same in another order.
            IrregularTimeError: it does not follow the past given before.
            OutsideTrainingBoundsError, NotFiniteError: as for `predict`.
        """
        check_past(past, self.inputs)
        check_bounds(past.values, self.inputs)
        later = copy(self)
        later._past = past if self._past is None else self._past.then(past)
        hours_tc = np.concatenate([self._rest_tc, past.values])
        whole = len(hours_tc) // self.bundle.block_h * self.bundle.block_h
        later._state_s = state_after(self._session, hours_tc[:whole], self._state_s)
        later._rest_tc = hours_tc[whole:]
        return later


def open_graph(path: Path, options: ort.SessionOptions | None = None) -> ort.InferenceSession:
    """Open an ONNX graph on the CPU; each call runs on one core. Raises BadBundleError."""
    options = options or ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # One block for a call's activations, laid out once for its shape: 3 % sooner than looking for a buffer that is free, and no
    # more memory (docs/log.md, 2026-11-28).
    options.enable_mem_reuse = False
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime raises classes of its own that derive from Exception only
        raise BadBundleError(path=path, reason=f"onnxruntime cannot read the graph: {str(e)[:300]}") from e


def run_graph(
    session: ort.InferenceSession,
    x_btc: NDArray[np.floating[Any]],
    n_outputs: int,
    n_threads: int = 1,
    state_s: NDArray[np.float32] | None = None,
    chunk_h: int = CHUNK_H,
) -> Array:
    """Run a graph over a batch in chunks of about `chunk_h` hours, (b, t, c) -> (b, t, o).

    Every row starts from `state_s`, shape (s,), what `state_after` returned; None is the state before the first hour.
    """
    n, t, _ = x_btc.shape
    y_bto = np.empty((n, t, n_outputs))
    if y_bto.size == 0:
        return y_bto
    size = min(n, max(1, chunk_h // t))
    state_bs = np.repeat(no_past(session)[None] if state_s is None else state_s[None], size, axis=0)

    def answer(first: int) -> None:
        chunk = np.ascontiguousarray(x_btc[first : first + size], dtype=np.float32)
        feed = dict(zip(INPUTS, (chunk, state_bs[: len(chunk)]), strict=True))
        y_bto[first : first + size] = session.run(OUTPUTS[:1], feed)[0]

    starts = range(0, n, size)
    if n_threads > 1 and len(starts) > 1:
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(answer, starts))
    else:
        for first in starts:
            answer(first)
    return y_bto


def no_past(session: ort.InferenceSession) -> NDArray[np.float32]:
    """Return the state before the first hour, shape (s,)."""
    return np.zeros(session.get_inputs()[1].shape[1], dtype=np.float32)


def state_after(
    session: ort.InferenceSession, x_tc: NDArray[np.floating[Any]], state_s: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the state that whole blocks of hours, shape (t, c), leave behind `state_s`, shape (s,)."""
    if len(x_tc) == 0:
        return state_s
    feed = dict(zip(INPUTS, (x_tc[None].astype(np.float32), state_s[None]), strict=True))
    return np.asarray(session.run(OUTPUTS[1:], feed)[0][0], dtype=np.float32)
