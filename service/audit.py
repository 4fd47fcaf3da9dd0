"""Who did what, in a log that is only appended to and whose entries hold each other.

Each entry's hash is SHA-256 over the hash of the one before and over everything it says, so that no entry can be changed, taken
out or put in without every later hash changing. What a chain cannot see by itself is a cut at its end, or a whole new chain: for
that the newest number and hash (the head) are noted in a file beside the tokens, shown at /v1/audit and by `setwise audit-log
verify`, and may be noted anywhere else (`--head 120:3f0c...`). Whoever owns the machine can rewrite both log and note; a head
noted elsewhere shows it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from service.store.acts import Acts, AuditRow

GENESIS = "0" * 64


@dataclass(frozen=True)
class Head:
    """Number and hash of the newest entry. As text: ``120:3f0c...``."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


@dataclass(frozen=True)
class Verdict:
    """What a look over the whole log found; no fault means that nothing was changed, taken out, put in or cut off."""

    n: int
    head: Head
    faults: tuple[str, ...]


class AuditLog:
    """The log of one service.

    Args:
        acts: where the rows are.
        note: file in which the head is noted.
    """

    def __init__(self, acts: Acts, note: Path) -> None:
        self._acts = acts
        self._note = note

    def append(self, who: str, role: str, action: str, target: str, detail: Mapping[str, Any], at: pd.Timestamp) -> None:
        """Append an entry, in the transaction that is open or in one of its own. `note_head` follows once that is committed."""
        text = json.dumps(dict(detail), sort_keys=True, default=str)

        def next_row(last: AuditRow | None) -> AuditRow:
            before = Head(0, GENESIS) if last is None else Head(last.seq, last.hash)
            noted = _read(self._note)
            if noted is not None and noted.seq >= before.seq:
                before = noted  # where the log was cut or written anew, the gap must stay to be seen
            row = AuditRow(before.seq + 1, int(at.timestamp() * 1000 + 0.5), _clean(who), role, action, _clean(target), text, "")
            return replace(row, hash=_hash(before.hash, row))

        self._acts.append(next_row)

    def note_head(self) -> None:
        """Note the newest entry in the file (mode 0600, in one step)."""
        fresh = self._note.with_name(f"{self._note.name}.{os.getpid()}.new")
        self._note.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as out:
            out.write(f"{self.head()}\n")
        os.replace(fresh, self._note)

    def head(self) -> Head:
        """Return number and hash of the newest entry; 0 and zeros in an empty log."""
        newest = self._acts.rows(limit=1, is_newest_first=True)
        return Head(newest[0].seq, newest[0].hash) if newest else Head(0, GENESIS)

    def entries(self, after: int = 0, limit: int = 100) -> list[AuditRow]:
        """Return entries, newest first."""
        return self._acts.rows(after, limit, is_newest_first=True)

    def verify(self, known_head: str | None = None) -> Verdict:
        """Look over the whole log.

        Args:
            known_head: a head noted elsewhere, as text; that of the file is always compared.
        """
        faults: list[str] = []
        hashes = {0: GENESIS}
        last = Head(0, GENESIS)
        for row in self._acts.rows():
            if row.seq != last.seq + 1:
                faults.append(f"{_entries(last.seq + 1, row.seq - 1)} missing: deleted.")
            elif row.hash != _hash(last.hash, row):
                faults.append(f"entry {row.seq} ({row.action} by {row.who}) is not what was written: changed.")
            last = Head(row.seq, row.hash)
            hashes[row.seq] = row.hash
        for head, where in ((_read(self._note), str(self._note)), (_parse(known_head), "--head")):
            if head is None:
                continue
            if head.seq > last.seq:
                faults.append(f"{_entries(last.seq + 1, head.seq)} missing at the end: cut off ({where} knows {head.seq}).")
            elif hashes.get(head.seq, head.hash) != head.hash:
                faults.append(f"entry {head.seq} is not the one noted in {where}: the log was written anew up to there.")
        if last.seq and _read(self._note) is None:
            faults.append(f"the note of the head ({self._note}) is missing or unreadable: a cut at the end cannot be excluded.")
        return Verdict(len(hashes) - 1, last, tuple(faults))


def note_beside(token_file: Path) -> Path:
    """Return where the head of the log is noted: beside the tokens."""
    return token_file.with_name("audit-head")


def _hash(before: str, row: AuditRow) -> str:
    said = json.dumps([row.seq, row.at, row.who, row.role, row.action, row.target, row.detail], ensure_ascii=True)
    return hashlib.sha256(f"{before}\n{said}".encode()).hexdigest()


def _entries(first: int, last: int) -> str:
    return f"entry {first} is" if first == last else f"entries {first} to {last} are"


def _clean(text: str) -> str:
    """Return text any database gives back as it was."""
    return text[:200].encode("utf-8", "replace").decode().replace("\0", "")


def _read(note: Path) -> Head | None:
    try:
        return _parse(note.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError):
        return None


def _parse(text: str | None) -> Head | None:
    seq, _, digest = (text or "").strip().partition(":")
    return Head(int(seq), digest) if seq.isdigit() and digest else None
