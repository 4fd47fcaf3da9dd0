"""Who may do what: bearer tokens with a role, kept as hashes in one file, and a limit on wrong ones.

A token carries 256 random bits, so its plain SHA-256 is as safe at rest as a slow password hash: nobody can try 2^256 of them,
and a slow hash on every request would only help whoever wants to keep the gateway busy. The file (mode 0600) stands beside the
store, not in it: it is read at each request (a revoked token is void at once), works while the database does not, and is in no
backup of the store.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from building.errors import BadDescriptionError, NotAuthorisedError, RoleTooLowError, TooManyAttemptsError, UnknownNameError

Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")
"""Each may do what the ones before it may: viewers read; operators act on the building; admins act on the service."""

_LONGEST_WAIT_S = 300.0
_MOST_ADDRESSES = 4096


@dataclass(frozen=True)
class Caller:
    """Who sends a request: the name of the token, and its role."""

    name: str
    role: Role

    def must_be(self, wanted: Role) -> None:
        """Raise RoleTooLowError when this caller may less than `wanted`."""
        if ROLES.index(self.role) < ROLES.index(wanted):
            raise RoleTooLowError(who=self.name, role=self.role, wanted=wanted)


@dataclass(frozen=True)
class Token:
    """A token as it is kept; the token itself is nowhere.

    Attributes:
        id: short, to revoke it by.
        name: whose it is.
        role: viewer, operator or admin.
        hash: SHA-256 of the token, hexadecimal.
        made, expires, revoked: UTC, ISO 8601; `expires` None is never.
    """

    id: str
    name: str
    role: Role
    hash: str
    made: str
    expires: str | None = None
    revoked: str | None = None

    def why_not(self, now: pd.Timestamp) -> str | None:
        """Return why it opens nothing at an instant, or None."""
        if self.revoked is not None:
            return f"the token '{self.name}' was revoked on {self.revoked[:10]}. Ask an admin for a new one."
        if self.expires is not None and now >= pd.Timestamp(self.expires):
            return f"the token '{self.name}' expired on {self.expires[:10]}. Ask an admin for a new one."
        return None


def tokens(file: Path) -> list[Token]:
    """Return every token of the file, revoked ones too.

    Raises:
        NotAuthorisedError: there is no such file, or it cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8").strip()
        if not text.startswith("{"):  # of the first setwise: one hash, one token that may all
            if len(bytes.fromhex(text)) != 32:
                raise ValueError(text)
            return [Token("first", "first", "admin", text, "1970-01-01T00:00:00+00:00")]
        return [Token(**one) for one in json.loads(text)["tokens"]]
    except FileNotFoundError:
        reason = "this service has no token yet. Make one with 'setwise token create'."
        raise NotAuthorisedError(reason=reason) from None
    except (OSError, ValueError, KeyError, TypeError):
        reason = "the service cannot read its token file. Move it away and make a new one with 'setwise token create'."
        raise NotAuthorisedError(reason=reason) from None


def create_token(
    file: Path, name: str, role: Role, days: float | None = None, now: pd.Timestamp | None = None
) -> tuple[Token, str]:
    """Make a token, add its hash to `file` (mode 0600, in one step), and return its record and the token itself.

    Args:
        file: the token file; made when there is none.
        name: whose it is; one living token per name.
        role: what it may.
        days: until it expires; None for never.
        now: UTC; the machine's clock when None.

    Raises:
        BadDescriptionError: a living token has that name. NotAuthorisedError: a token file that cannot be read.
    """
    now = now or pd.Timestamp.now(tz="UTC")
    secret = f"sw_{secrets.token_urlsafe(32)}"
    until = None if days is None else (now + pd.Timedelta(days=days)).isoformat()
    made = Token(secrets.token_hex(4), name, role, _hash(secret), now.isoformat(), until)
    with _locked(file):
        known = tokens(file) if file.exists() else []
        if any(t.name == name and t.why_not(now) is None for t in known):
            reason = f"there is a living token '{name}' already. Revoke it first, or take another name."
            raise BadDescriptionError(file=file, reason=reason)
        _write(file, [*known, made])
    return made, secret


def make_token(file: Path, role: Role = "admin") -> str:
    """Make a token that never expires, named after its role, and return it. Raises as `create_token`."""
    return create_token(file, f"{role}-{secrets.token_hex(3)}", role)[1]


def revoke_token(file: Path, which: str, now: pd.Timestamp | None = None) -> Token:
    """Void a token, by id or by name, and return it as it is then.

    Raises:
        UnknownNameError: no living token of that id or name. NotAuthorisedError: a token file that cannot be read.
    """
    now = now or pd.Timestamp.now(tz="UTC")
    with _locked(file):
        known = tokens(file)
        found = next((t for t in known if which in (t.id, t.name) and t.revoked is None), None)
        if found is None:
            hint = " 'setwise token list' shows them."
            raise UnknownNameError(name=which, kind="living token", owner="this service", hint=hint)
        void = replace(found, revoked=now.isoformat())
        _write(file, [void if t is found else t for t in known])
    return void


def first_token(file: Path) -> str | None:
    """Make an admin's token at the first start and return it; return None when there is a token file already."""
    return None if file.exists() else create_token(file, "first", "admin")[1]


def who_is(file: Path, authorisation: str | None, now: pd.Timestamp | None = None) -> Caller:
    """Return who shows the header `Authorization: Bearer <token>`. Every known hash is compared, each in constant time.

    Raises:
        NotAuthorisedError: no header, another scheme, or a token that is unknown, expired or revoked.
    """
    if not authorisation:
        raise NotAuthorisedError(reason="the request carries no token. Send the header 'Authorization: Bearer <token>'.")
    scheme, _, token = authorisation.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthorisedError(reason="only the scheme Bearer is known. Send 'Authorization: Bearer <token>'.")
    shown = _hash(token.strip())
    found = None
    for one in tokens(file):
        if hmac.compare_digest(shown, one.hash):
            found = one
    if found is None:
        raise NotAuthorisedError(reason="the token is wrong. An admin makes a new one with 'setwise token create'.")
    why_not = found.why_not(now or pd.Timestamp.now(tz="UTC"))
    if why_not is not None:
        raise NotAuthorisedError(reason=why_not)
    return Caller(found.name, found.role)


class Attempts:
    """Counts wrong tokens by address. After `free` of them each further one doubles the wait, 1 s to 5 min.

    Args:
        free: wrong tokens an address may send before it has to wait.
        seconds: a clock that only rises.
    """

    def __init__(self, free: int, seconds: Callable[[], float] = time.monotonic) -> None:
        self._free = free
        self._seconds = seconds
        self._known: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, address: str) -> None:
        """Raise TooManyAttemptsError while the address has to wait."""
        with self._lock:
            n, until = self._known.get(address, (0, 0.0))
            wait_s = until - self._seconds()
        if wait_s > 0:
            raise TooManyAttemptsError(n=n, address=address, wait_s=int(wait_s) + 1)

    def failed(self, address: str) -> bool:
        """Count a wrong token; return True when this one made the address wait for the first time."""
        with self._lock:
            n = self._known.pop(address, (0, 0.0))[0] + 1
            over = n - self._free
            wait_s = 0.0 if over <= 0 else min(2.0 ** min(over - 1, 30), _LONGEST_WAIT_S)
            self._known[address] = (n, self._seconds() + wait_s)
            if len(self._known) > _MOST_ADDRESSES:
                self._known.popitem(last=False)
            return over == 1

    def succeeded(self, address: str) -> None:
        """Forget an address that showed a good token."""
        with self._lock:
            self._known.pop(address, None)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8")).hexdigest()


def _write(file: Path, known: list[Token]) -> None:
    fresh = file.with_name(f"{file.name}.{os.getpid()}.new")
    write_private(fresh, json.dumps({"tokens": [asdict(t) for t in known]}, indent=1) + "\n")
    os.replace(fresh, file)


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(text)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Keep the program and the service from writing the file at the same time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file.with_name(f"{file.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
