"""Dataset: arrays on disk, with the signatures in the manifest.

A dataset folder holds
    manifest.json   signatures, warm-up, origin (engine, model, seed, core-hours, what failed and why)
    windows.csv     one row per window: run, climate, start (UTC), kind of plan, split
    x.npy, y.npy    float32, shapes (window, time, inputs) and (window, time, outputs); memory-mapped on reading

Each window is `warm_up_h` hours of past (simulated, judged by nobody) followed by 672 h.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.errors import BadDatasetError
from building.variables import Signature

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Dataset:
    """Windows of simulated hours.

    Attributes:
        inputs, outputs: signatures of the channels.
        x_ntc: scenarios, shape (window, time, inputs), float32, physical units.
        y_ntc: responses, shape (window, time, outputs), float32, physical units.
        windows: one row per window: ``run``, ``climate``, ``start`` (UTC), ``kind``, ``split`` (train, validation).
        warm_up_h: leading hours that are only past.
        origin: where the data come from, as plain JSON data.
    """

    inputs: Signature
    outputs: Signature
    x_ntc: NDArray[np.float32]
    y_ntc: NDArray[np.float32]
    windows: pd.DataFrame
    warm_up_h: int
    origin: dict[str, Any]

    def __len__(self) -> int:
        return len(self.windows)

    def where(self, keep: NDArray[np.bool_]) -> Dataset:
        """Return the windows where `keep` is true (copies them into memory)."""
        return Dataset(
            self.inputs, self.outputs, self.x_ntc[keep], self.y_ntc[keep], self.windows[keep].reset_index(drop=True),
            self.warm_up_h, self.origin,
        )  # fmt: skip


def save_dataset(dataset: Dataset, folder: Path) -> None:
    """Write a dataset; the manifest last, so that a folder with a manifest is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "x.npy", dataset.x_ntc)
    np.save(folder / "y.npy", dataset.y_ntc)
    dataset.windows.to_csv(folder / "windows.csv", index=False)
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "inputs": dataset.inputs.to_list(),
        "outputs": dataset.outputs.to_list(),
        "warm_up_h": dataset.warm_up_h,
        "origin": dataset.origin,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def load_dataset(folder: Path) -> Dataset:
    """Read a dataset, arrays memory-mapped.

    Raises:
        BadDatasetError: no manifest, another schema, or arrays that do not fit it.
    """
    path = folder / "manifest.json"
    if not path.exists():
        raise BadDatasetError(path=folder, reason="no manifest.json; the campaign was not exported (setwise simulate --export).")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if manifest["schema_version"] != SCHEMA_VERSION:
        raise BadDatasetError(path=folder, reason=f"schema {manifest['schema_version']}, this setwise reads {SCHEMA_VERSION}.")
    x_ntc = np.load(folder / "x.npy", mmap_mode="r")
    y_ntc = np.load(folder / "y.npy", mmap_mode="r")
    windows = pd.read_csv(folder / "windows.csv", parse_dates=["start"])
    inputs, outputs = Signature.from_list(manifest["inputs"]), Signature.from_list(manifest["outputs"])
    wanted = (len(windows), x_ntc.shape[1])
    if x_ntc.shape != (*wanted, len(inputs)) or y_ntc.shape != (*wanted, len(outputs)):
        raise BadDatasetError(path=folder, reason=f"arrays {x_ntc.shape} and {y_ntc.shape} do not fit the manifest.")
    return Dataset(inputs, outputs, x_ntc, y_ntc, windows, manifest["warm_up_h"], manifest["origin"])
