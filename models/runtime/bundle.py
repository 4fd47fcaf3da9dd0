"""Bundle: the folder in which a metamodel travels to the gateway; bundle.json says what it is and vouches for every other file.

bundle.json   schema version, building, signatures with bounds, warm-up, origin of the data, accuracy, core-hours,
              sha256 of each file
graph.onnx    x_btc, state_bs -> y_bto, left_bs; float32, physical units, any batch and any length: scenarios and the state before
              them -> responses and the state after them (right after whole blocks of `block_h` hours; zero before the first)
CARD.md       the same for people: what, from which campaign, how good, where it fails
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from building.errors import BadBundleError, BundleChecksumError, BundleSchemaError, SetwiseError
from building.variables import Signature

SCHEMA_VERSION = 2
GRAPH = "graph.onnx"
CARD = "CARD.md"
MANIFEST = "bundle.json"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes:
        folder: where it lies.
        building: name of the building it answers for.
        inputs, outputs: signatures; bounds of the inputs are what it was trained on. Inputs that pruning removed are not listed.
        block_h: a state can be carried on after every so many hours.
        warm_up_h: hours of past to give before the first judged hour.
        origin: where the training data come from.
        accuracy: measured figures by name (models/evaluation.py), on the validation split of the campaign.
        core_hours: core-hours spent, by what.
        created: UTC time stamp, ISO 8601.
        facts: all of bundle.json.
    """

    folder: Path
    building: str
    inputs: Signature
    outputs: Signature
    block_h: int
    warm_up_h: int
    origin: dict[str, Any]
    accuracy: dict[str, float]
    core_hours: dict[str, float]
    created: str
    facts: dict[str, Any]

    @property
    def graph(self) -> Path:
        """The ONNX graph."""
        return self.folder / GRAPH


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_bundle(path: str | Path) -> Bundle:
    """Read and verify a bundle.

    Raises:
        BadBundleError: no bundle.json, not JSON, a missing key or file, a signature nobody understands.
        BundleSchemaError: written by another version.
        BundleChecksumError: a file is not what bundle.json says.
    """
    folder = Path(path)
    try:
        facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as e:
        raise BadBundleError(path=folder, reason=f"there is no {MANIFEST}; this is not a bundle.") from e
    except (json.JSONDecodeError, UnicodeDecodeError) as e:
        raise BadBundleError(path=folder, reason=f"{MANIFEST} is not JSON: {e}") from e
    if not isinstance(facts, dict) or facts.get("schema_version") != SCHEMA_VERSION:
        found = facts.get("schema_version", "missing") if isinstance(facts, dict) else "missing"
        raise BundleSchemaError(path=folder, found=found, wanted=SCHEMA_VERSION)
    try:
        bundle = Bundle(
            folder,
            facts["building"],
            Signature.from_list(facts["inputs"]),
            Signature.from_list(facts["outputs"]),
            int(facts["network"]["block_h"]),
            int(facts["warm_up_h"]),
            facts["origin"],
            facts["accuracy"],
            facts["core_hours"],
            facts["created"],
            facts,
        )
        checksums = dict(facts["sha256"])
    except (KeyError, TypeError, ValueError, SetwiseError) as e:
        raise BadBundleError(path=folder, reason=f"{MANIFEST} lacks or garbles {e}.") from e
    if GRAPH not in checksums:
        raise BadBundleError(path=folder, reason=f"{MANIFEST} does not vouch for {GRAPH}.")
    for file, wanted in checksums.items():
        if not (folder / file).is_file():
            raise BadBundleError(path=folder, reason=f"the file '{file}' is missing; copy the bundle again.")
        found = sha256(folder / file)
        if found != wanted:
            raise BundleChecksumError(path=folder, file=file, found=found[:12], wanted=wanted[:12])
    return bundle
