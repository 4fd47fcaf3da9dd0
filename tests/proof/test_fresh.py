"""`setwise evaluate` where the simulator gives nothing to compare with."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from building.errors import BadDatasetError
from proof import fresh
from simulation.campaign import Outcome

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "medium_office"


def failed(number: int) -> Outcome:
    reason = f"the simulation failed (run {number})"
    return Outcome(number, "chicago", ("odd",), pd.Timestamp("2021-01-01"), None, None, {"reason": reason}, 1.0)


def test_when_no_fresh_run_succeeds_the_first_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def nothing_works(n_workers: int | None):
        yield lambda function, items: (failed(i) for i in items)

    monkeypatch.setattr(fresh, "local_map", nothing_works)
    seen: list[tuple[int, int, str]] = []
    with pytest.raises(BadDatasetError, match=r"no fresh run succeeded.*\(run 0\)"):
        fresh.evaluate(BUNDLE, runs=3, progress=lambda *told: seen.append(told))
    assert seen[-1] == (3, 3, "3 failed")
