"""What the store keeps, as values; and `Store`, the contract that every store keeps (tests/contracts/test_stores.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import pandas as pd

from building.errors import BadReadingError
from building.plan import Plan
from service.quality import Rule

Outcome = Literal["running", "done", "refused", "failed", "timed_out", "interrupted"]
PublicationState = Literal["waiting", "sent", "acknowledged", "unconfirmed", "expired", "replaced", "released"]


@dataclass(frozen=True, slots=True)
class Reading:
    """One measured value, inside unit.

    Attributes:
        variable: its name in the building's signature.
        stamp: when it holds (UTC; the start of its hour when it is an hourly mean).
        value: finite.
        received: when it reached us (UTC).
        flag: ``good``, or why to doubt it.
    """

    variable: str
    stamp: pd.Timestamp
    value: float
    received: pd.Timestamp
    flag: str = "good"


@dataclass(frozen=True)
class PlanRecord:
    """A stored plan. `state`: ``accepted`` (may be followed) or ``withdrawn``."""

    id: int
    issued: pd.Timestamp
    state: str
    plan: Plan


@dataclass(frozen=True)
class DocumentRecord:
    """A stored calibration or front: JSON data with the instant it was made. `state`: ``accepted`` or ``refused``."""

    id: int
    made: pd.Timestamp
    state: str
    data: dict[str, Any]


@dataclass(frozen=True)
class JobRecord:
    """One line of the journal: `log` says what came of it, `tail` are the last lines the child wrote."""

    id: int
    kind: str
    started: pd.Timestamp
    ended: pd.Timestamp | None
    outcome: Outcome
    log: str
    tail: str = ""
    peak_mb: float | None = None


@dataclass(frozen=True)
class PublicationRecord:
    """One setpoint that left, or waits to leave."""

    id: int
    setting: str
    topic: str
    value: float
    valid_until: pd.Timestamp
    made: pd.Timestamp
    state: PublicationState
    settled: pd.Timestamp | None
    plan_id: int | None
    reason: str


@dataclass(frozen=True)
class RegimeRecord:
    """How the building was run over a stretch of time, without a gap and without a change.

    Attributes:
        since, until: from when to when (UTC).
        run: ``plan``, ``own`` (the building's own schedule) or ``none`` (nothing of ours reached the BMS).
        assigned: what a switchback trial asked for: ``plan``, ``own``, or nothing.
        held: settings that a person held.
        why: what stood in the way of the plan; empty while it was followed.
    """

    since: pd.Timestamp
    until: pd.Timestamp
    run: str
    assigned: str = ""
    held: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class RefusalRecord:
    """How often messages were refused for one reason, and the last of them."""

    reason: str
    n: int
    last: pd.Timestamp
    topic: str
    detail: str


class Store(Protocol):
    """What the service remembers. Every method is one transaction, or part of the one opened by `transaction`."""

    def transaction(self) -> AbstractContextManager[None]:
        """Join all calls of this thread inside the block: all of them are kept, or none."""

    def moment(self) -> AbstractContextManager[None]:
        """Let all reads of this thread inside the block see one moment, over one connection: quicker than one for each."""

    def add_readings(
        self, readings: Sequence[Reading], refused: Iterable[BadReadingError] = (), at: pd.Timestamp | None = None
    ) -> int:
        """Keep readings and count refusals; return how many were new. A known (variable, stamp) counts as ``duplicate``, but a
        usable reading takes the place of one that was not.
        """

    def add_rows(
        self,
        rows: Sequence[tuple[str, int, float, str, int]],
        refused: Iterable[BadReadingError] = (),
        at: pd.Timestamp | None = None,
    ) -> int:
        """`add_readings` for many: rows of variable, stamp [UTC ms], value, flag, received [UTC ms]."""

    def series(self, variables: Sequence[str], start: pd.Timestamp, end: pd.Timestamp, is_usable: bool = True) -> pd.DataFrame:
        """Return readings with start <= stamp < end: a column per variable, a row per stamp of any of them, NaN elsewhere.

        Those that are not usable only when asked for. Where readings were compacted, the mean of each step stands at its start.
        """

    def hourly(
        self, variables: Sequence[str], start: pd.Timestamp, end: pd.Timestamp, rules: Mapping[str, Rule] | None = None
    ) -> pd.DataFrame:
        """Return hourly values on every hour from `start` to `end` (floored), NaN where no usable reading fell.

        The mean, or what `rules` says of a variable (`quality.resample`); without `rules` what is kept under the key
        ``resampling``. A mean is the same whether compacted or not; what the other rules give moves by at most one step.
        """

    def last(self, variables: Sequence[str], is_usable: bool = True) -> dict[str, Reading]:
        """Return the newest usable reading of each variable that has one; or the newest whatever its flag."""

    def refusals(self) -> list[RefusalRecord]:
        """Return refusals by reason, most frequent first."""

    def add_forecast(self, frame: pd.DataFrame, issued: pd.Timestamp) -> None:
        """Keep a forecast with its issue time: UTC index, a column per variable; NaN are left out."""

    def forecast(self, variables: Sequence[str], start: pd.Timestamp, end: pd.Timestamp, at: pd.Timestamp) -> pd.DataFrame:
        """Return, on every hour, what the newest forecast issued up to `at` says; NaN where none does."""

    def add_plan(self, plan: Plan, issued: pd.Timestamp, state: str = "accepted") -> int:
        """Keep a plan; return its id."""

    def withdraw_plan(self, plan_id: int) -> None:
        """Mark a plan as not to be followed."""

    def plan_in_force(self, at: pd.Timestamp) -> PlanRecord | None:
        """Return the accepted plan issued last that covers `at`."""

    def plan(self, plan_id: int) -> PlanRecord | None:
        """Return one plan, or None."""

    def plans(self, limit: int = 20) -> list[PlanRecord]:
        """Return the newest plans."""

    def add_calibration(self, data: Mapping[str, Any], made: pd.Timestamp, is_accepted: bool) -> int:
        """Keep a calibration, refused ones too; return its id."""

    def last_calibration(self, is_accepted: bool | None = None) -> DocumentRecord | None:
        """Return the newest calibration (of this verdict)."""

    def add_front(self, data: Mapping[str, Any], made: pd.Timestamp) -> int:
        """Keep a front; return its id."""

    def last_front(self) -> DocumentRecord | None:
        """Return the newest front."""

    def start_job(self, kind: str, at: pd.Timestamp) -> int:
        """Open a line in the journal. Raises JobOverlapError while one of this kind runs."""

    def end_job(self, job_id: int, outcome: Outcome, at: pd.Timestamp, log: str = "") -> None:
        """Close a line in the journal."""

    def note_job(self, job_id: int, peak_mb: float | None, tail: str) -> None:
        """Add to a line of the journal what was seen of the child: most memory, last lines."""

    def interrupt_jobs(self, at: pd.Timestamp) -> list[JobRecord]:
        """At start: mark what a former process left running as ``interrupted``; return those jobs."""

    def jobs(self, kind: str | None = None, limit: int = 20) -> list[JobRecord]:
        """Return the newest lines of the journal."""

    def job(self, job_id: int) -> JobRecord | None:
        """Return one line of the journal, or None."""

    def add_publication(
        self,
        setting: str,
        topic: str,
        value: float,
        valid_until: pd.Timestamp,
        made: pd.Timestamp,
        plan_id: int | None,
        reason: str = "",
    ) -> int:
        """Keep a setpoint about to leave, state ``waiting``; return its id."""

    def settle_publication(self, publication_id: int, state: PublicationState, at: pd.Timestamp) -> None:
        """Say what became of a setpoint."""

    def last_publications(self) -> dict[str, PublicationRecord]:
        """Return the newest publication of each setting."""

    def publications(self, start: pd.Timestamp, end: pd.Timestamp) -> list[PublicationRecord]:
        """Return publications made in start <= made < end, in order."""

    def note_regime(self, now: RegimeRecord) -> None:
        """Keep how the building is run from `now.since` to `now.until`.

        What goes on as before lengthens the last record; a change shortens it and begins another. Overlapping stretches (a clock
        that was set back) stay, the later word is the valid one.
        """

    def regimes(self, start: pd.Timestamp, end: pd.Timestamp) -> list[RegimeRecord]:
        """Return the records that touch start .. end, in the order they were noted."""

    def put(self, key: str, value: Any) -> None:
        """Keep one JSON value under a key."""

    def get(self, key: str) -> Any:
        """Return the value under a key, or None."""

    def counts(self) -> dict[str, int]:
        """Return how many rows each table has. Counts them: a second for ten million."""

    def newest(self) -> pd.Timestamp | None:
        """Return the newest instant anything in the store is of."""

    def compact(self, before: pd.Timestamp, step_min: int) -> int:
        """Turn readings (step 15) or finer summaries (step 60) older than `before` into summaries; return how many rows went.

        Mean, least, most, first, last, rise and count of each step and flag stay. One transaction per variable and month.
        """

    def forget(self, before: pd.Timestamp, forecasts_before: pd.Timestamp | None = None) -> int:
        """Delete readings, summaries and publications older than `before`, forecasts older than `forecasts_before` (the same).

        Plans, calibrations, fronts, regimes, overrides, journal and audit stay for ever. Returns how many rows went.
        """

    def backup(self, file: Path) -> int:
        """Write a consistent copy of everything into an SQLite file while others read and write; return its bytes."""

    def close(self) -> None:
        """Let go of every connection."""
