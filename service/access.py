"""The bearer token: made once, shown once, kept as a hash, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from building.errors import NotAuthorisedError


def make_token(file: Path) -> str:
    """Make a new token, write its hash to `file` (mode 0600) in one step, and return the token itself.

    A token carries 256 random bits, so a plain SHA-256 is as safe here as a slow password hash.
    """
    token = secrets.token_urlsafe(32)
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.name}.{os.getpid()}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as out:
        out.write(_hash(token) + "\n")
    os.replace(fresh, file)
    return token


def first_token(file: Path) -> str | None:
    """Make a token at the first start and return it; return None when there is one already."""
    return None if file.exists() else make_token(file)


def check_token(file: Path, authorisation: str | None) -> None:
    """Check the header `Authorization: Bearer <token>`.

    Raises:
        NotAuthorisedError: no header, another scheme, or a token that is not the one in `file`.
    """
    if not authorisation:
        raise NotAuthorisedError(reason="the request carries no token. Send the header 'Authorization: Bearer <token>'.")
    scheme, _, token = authorisation.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthorisedError(reason=f"the scheme '{scheme}' is not known. Send 'Authorization: Bearer <token>'.")
    try:
        wanted = file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise NotAuthorisedError(reason="this service has no token yet. Make one with 'setwise token'.") from None
    except (OSError, UnicodeDecodeError):
        raise NotAuthorisedError(reason="the service cannot read its token file. Make a new one with 'setwise token'.") from None
    if not hmac.compare_digest(_hash(token.strip()), wanted):
        raise NotAuthorisedError(
            reason="the token is wrong. It was printed at the first start; 'setwise token' makes a new one and voids the old."
        )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8")).hexdigest()
