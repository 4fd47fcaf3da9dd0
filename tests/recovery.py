"""What each fault of `pytest -m faults` may cost: what is lost, and within which time the service is right again.

A test says `@pytest.mark.faults("name")` with a name of FAULTS and times its recovery with the fixture `recovery`; longer than
stated fails. docs/faults.md shows this table (tests/service/test_faults.py keeps the two alike), and `pytest -m faults` prints it
with what was measured. The limits are what a user is promised on a small gateway, so a busy machine stays far from them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple


class Fault(NamedTuple):
    """One fault.

    Attributes:
        what: what is broken.
        lost: what of the user's is gone.
        recovery: from which moment to which the time is taken.
        within_s: stated recovery [s].
    """

    what: str
    lost: str
    recovery: str
    within_s: float


FAULTS: dict[str, Fault] = {
    "service killed": Fault(
        "kill -9 of the service at a random moment, under a stream of QoS 1 readings",
        "nothing that the broker acknowledged",
        "from the next start to setpoints out and all readings in",
        30,
    ),
    "setwise serve killed": Fault(
        "the same with `setwise serve` as it is installed, interpreter and imports included",
        "nothing that the broker acknowledged",
        "from the next start to setpoints out and all readings in",
        60,
    ),
    "broker killed": Fault(
        "the broker killed and restarted with an empty memory",
        "what the broker had taken and not yet handed on; nothing that reached the service",
        "from the broker's return to new readings in the store",
        30,
    ),
    "broker restarted": Fault(
        "the broker restarted in order, its queue on its disk",
        "nothing that the broker acknowledged",
        "from the broker's return to new readings in the store",
        30,
    ),
    "broker gone for an hour": Fault(
        "the broker gone for an hour (simulated clock)",
        "nothing; setpoints of that hour never leave",
        "from the broker's return to this hour's setpoints at the plant",
        70,
    ),
    "disk full": Fault(
        "the disk full (a file system of 8 MB)",
        "nothing; setpoints go on unrecorded",
        "from room on the disk to all readings in",
        40,
    ),
    "file size limit": Fault("no file may grow (quota, `ulimit -f`)", "nothing", "from room to the next commit", 10),
    "read-only disk": Fault("the store on a disk that is read-only", "nothing", "the store opens and takes a reading", 10),
    "damaged pages": Fault(
        "pages of the database damaged under the service",
        "what came in since the last backup; the own schedule holds meanwhile",
        "`setwise restore --force` and a start, to the plan in force",
        60,
    ),
    "PostgreSQL killed": Fault(
        "PostgreSQL killed and restarted under the service", "nothing", "from the server's start to all readings in", 60
    ),
    "malformed flood": Fault(
        "3,000 malformed messages among good ones",
        "nothing; each is counted by its reason",
        "from the last of them to all good readings in",
        30,
    ),
    "slow subscriber": Fault("a subscriber of everything that never reads", "nothing", "a reading is in the store", 10),
    "service dead": Fault(
        "kill -9 of the service, and it stays dead (heartbeat each second)",
        "nothing; the plant follows its own schedule",
        "from the kill to the own schedule at the plant: three beats",
        5,
    ),
    "service killed in a job": Fault(
        "kill -9 of the service while a job runs", "the job; its entry says `interrupted`", "the next start serves", 60
    ),
    "job crashes": Fault(
        "a job that crashes inside a library", "the job; its stack is in the journal", "the journal says so", 60
    ),
    "job hangs": Fault("a job that hangs (limit of 1 s)", "the job", "it is ended and the next may start", 60),
    "bundle damaged": Fault(
        "the bundle damaged under the service", "nothing; the plan in force goes on", "the file copied again opens", 10
    ),
    "clock jump": Fault(
        "the clock jumps by -400 days, -2 h, 3 days, 82 years",
        "nothing; the own schedule holds while it is wrong",
        "the clock is right again, to the plan in force",
        10,
    ),
    "daylight saving": Fault(
        "the days of the clock change, 23 and 25 hours", "nothing", "one step of 15 min is decided and published", 10
    ),
    "slow client": Fault("20 clients of the API that dawdle", "nothing; they are cut off", "another client is answered", 30),
    "writer killed": Fault("kill -9 of a writer at sixty random moments", "nothing committed", "the store opens", 10),
    "power cut": Fault("power cut with everything in the WAL", "nothing committed", "the store opens", 10),
    "corrupt WAL": Fault(
        "the WAL torn, garbled or gone", "what was committed after the damage", "the store opens and works on", 10
    ),
    "commit killed": Fault(
        "kill -9 in the middle of a commit", "what was not committed, which the broker sends again", "the next commit", 10
    ),
    "backup killed": Fault("kill -9 in the middle of a backup", "nothing; the former backup stays", "the next backup", 30),
    "restore killed": Fault(
        "kill -9 in the middle of a restore", "nothing; it is the old store or the new one", "the store opens", 30
    ),
    "migration killed": Fault(
        "kill -9 in an upgrade or downgrade of the store", "nothing", "the store opens at the newest schema", 30
    ),
    "bundle swap killed": Fault(
        "kill -9 between two renames of `install` or `rollback`", "nothing", "the next job opens a bundle", 10
    ),
    "bundle swapped": Fault("bundle swapped while jobs open it", "nothing", "one swap, with two readers", 10),
}


@dataclass
class Recovery:
    """A stop-watch: `with recovery:` around each recovery of the fault."""

    fault: Fault
    measured_s: list[float] = field(default_factory=list)
    _began: float = 0.0

    def __enter__(self) -> Recovery:
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.took(time.monotonic() - self._began)

    def took(self, seconds: float) -> None:
        """Note a recovery that was timed otherwise."""
        self.measured_s.append(seconds)


MEASURED: defaultdict[str, list[float]] = defaultdict(list)
"""Recoveries of this session [s], by fault."""


def table() -> list[str]:
    """Return the lines of a Markdown table, with what this session measured where it did."""
    lines = ["| Fault | Lost | Recovery | stated | measured: n, median, longest |", "|---|---|---|---|---|"]
    for name, fault in FAULTS.items():
        times = sorted(MEASURED.get(name, []))
        measured = f"{len(times)}, {times[len(times) // 2]:.2f} s, {times[-1]:.2f} s" if times else "not in this run"
        lines.append(f"| {fault.what} | {fault.lost} | {fault.recovery} | {fault.within_s:g} s | {measured} |")
    return lines
