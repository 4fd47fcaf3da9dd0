"""What a helper far away needs to know of a gateway, in one file without a secret.

Only what is named here goes in; nothing is copied wholesale. Passwords and the store's URL show as stars, of tokens only name,
role and dates go in, of the environment only the names of variables.
"""

from __future__ import annotations

import json
import os
import platform
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pandas as pd

from building.errors import SetwiseError
from service.access import tokens
from service.audit import AuditLog, note_beside
from service.config import PREFIX, Config
from service.doctor import examine
from service.store import SqlStore
from service.store.acts import Acts


def collect(config: Config, file: Path) -> list[str]:
    """Write the diagnostics of this machine and its service to a zip and return the names in it. The service may run or not."""
    parts: dict[str, Any] = {
        "machine.json": {"python": platform.python_version(), "system": platform.platform(), "processors": os.cpu_count()},
        "packages.json": {d.metadata["Name"]: d.version for d in distributions()},
        "config.json": config.model_dump(mode="json"),
        "environment.json": sorted(name for name in os.environ if name.startswith(PREFIX)),
        "doctor.json": [asdict(f) for f in examine(config)],
        "tokens.json": _or_why(
            lambda: [{k: v for k, v in asdict(t).items() if k != "hash"} for t in tokens(config.api.token_file)]
        ),
        "store.json": _or_why(lambda: _store(config)),
    }
    secrets = [s for s in (config.mqtt.password, config.store.url, config.weather.url) if s is not None and s.get_secret_value()]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in parts.items():
            text = json.dumps(data, indent=1, default=str)
            for secret in secrets:  # a finding may quote what it looked at
                text = text.replace(json.dumps(secret.get_secret_value())[1:-1], "**********")
            out.writestr(name, text)
    return sorted(parts)


def _store(config: Config) -> Mapping[str, Any]:
    store = SqlStore(config.store.url.get_secret_value())
    try:
        verdict = AuditLog(Acts(store), note_beside(config.api.token_file)).verify()
        return {
            "now": pd.Timestamp.now(tz="UTC"),
            "rows": store.counts(),
            "jobs": [asdict(j) for j in store.jobs(limit=50)],
            "refusals": [asdict(r) for r in store.refusals()],
            "publications": [asdict(p) for p in store.last_publications().values()],
            "mode": store.get("mode"),
            "audit": {"entries": verdict.n, "head": str(verdict.head), "faults": verdict.faults},
        }
    finally:
        store.close()


def _or_why(look: Any) -> Any:
    try:
        return look()
    except (SetwiseError, OSError) as e:
        return {"error": str(e)}
