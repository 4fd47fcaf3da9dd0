"""Tokens: hashed at rest, with roles and an end, void at once; wrong ones from one address have to wait."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pandas as pd
import pytest

from building.errors import BadDescriptionError, NotAuthorisedError, RoleTooLowError, TooManyAttemptsError, UnknownNameError
from service.access import Attempts, Caller, create_token, first_token, make_token, revoke_token, tokens, who_is

NOW = pd.Timestamp("2026-02-02T15:10Z")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "token"


def test_token_is_random_kept_as_its_hash_and_readable_by_its_owner_only(file: Path) -> None:
    record, token = create_token(file, "anna", "operator")
    assert len(token) >= 43 and token not in file.read_text()
    assert record.hash == hashlib.sha256(token.encode()).hexdigest()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert make_token(file) != make_token(file)


def test_token_opens_with_its_name_and_role(file: Path) -> None:
    _, token = create_token(file, "anna", "operator")
    assert who_is(file, f"Bearer {token}") == Caller("anna", "operator")


@pytest.mark.parametrize(("role", "allowed"), [("viewer", 1), ("operator", 2), ("admin", 3)])
def test_each_role_may_do_what_the_ones_before_it_may(role, allowed) -> None:
    for i, wanted in enumerate(("viewer", "operator", "admin")):
        if i < allowed:
            Caller("x", role).must_be(wanted)
        else:
            with pytest.raises(RoleTooLowError, match=f"'x' is {role}; this asks for {wanted}"):
                Caller("x", role).must_be(wanted)


def test_expired_token_opens_nothing_and_says_since_when(file: Path) -> None:
    _, token = create_token(file, "anna", "viewer", days=2, now=NOW)
    assert who_is(file, f"Bearer {token}", NOW + pd.Timedelta(days=1.9)).name == "anna"
    with pytest.raises(NotAuthorisedError, match="expired on 2026-02-04"):
        who_is(file, f"Bearer {token}", NOW + pd.Timedelta(days=2))


def test_revoked_token_is_void_at_once_and_others_stay(file: Path) -> None:
    _, anna = create_token(file, "anna", "viewer")
    record, bert = create_token(file, "bert", "viewer")
    revoke_token(file, record.id)
    with pytest.raises(NotAuthorisedError, match="'bert' was revoked"):
        who_is(file, f"Bearer {bert}")
    assert who_is(file, f"Bearer {anna}").name == "anna"
    with pytest.raises(UnknownNameError, match="'bert' is not a living token"):
        revoke_token(file, "bert")


def test_token_is_renewed_under_its_name_once_the_old_one_is_void(file: Path) -> None:
    _, old = create_token(file, "anna", "viewer")
    with pytest.raises(BadDescriptionError, match="living token 'anna' already"):
        create_token(file, "anna", "admin")
    revoke_token(file, "anna")
    _, new = create_token(file, "anna", "viewer")
    assert who_is(file, f"Bearer {new}").name == "anna" and new != old


def test_first_token_is_an_admins_and_made_once(file: Path) -> None:
    token = first_token(file)
    assert token is not None and who_is(file, f"Bearer {token}").role == "admin"
    assert first_token(file) is None


def test_token_file_of_the_first_setwise_still_opens_as_an_admin(file: Path) -> None:
    file.parent.mkdir()
    file.write_text(hashlib.sha256(b"old-token").hexdigest() + "\n")
    assert who_is(file, "Bearer old-token").role == "admin"
    create_token(file, "anna", "viewer")
    assert [t.name for t in tokens(file)] == ["first", "anna"] and who_is(file, "Bearer old-token").role == "admin"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer wrong", "Bearer é"])
def test_header_that_shows_no_known_token_is_refused(file: Path, header: str | None) -> None:
    create_token(file, "anna", "viewer")
    with pytest.raises(NotAuthorisedError):
        who_is(file, header)


@pytest.mark.parametrize("content", [b"{", b"nonsense", b"\xff\xfe", b'{"tokens": [{"id": 1}]}', b""])
def test_token_file_that_cannot_be_read_lets_nobody_in_and_is_not_overwritten(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(NotAuthorisedError, match="cannot read its token file"):
        who_is(file, "Bearer x")
    with pytest.raises(NotAuthorisedError):
        create_token(file, "anna", "admin")
    assert file.read_bytes() == content


def test_wrong_tokens_make_their_address_wait_twice_as_long_each_and_no_other(file: Path) -> None:
    seconds = [0.0]
    attempts = Attempts(3, lambda: seconds[0])
    assert [attempts.failed("a") for _ in range(4)] == [False, False, False, True]
    for wait_s in (1, 2, 4, 8):
        with pytest.raises(TooManyAttemptsError) as refused:
            attempts.check("a")
        assert refused.value.wait_s == wait_s + 1
        attempts.check("b")
        seconds[0] += wait_s
        attempts.check("a")
        attempts.failed("a")
    for _ in range(40):
        attempts.failed("a")
    with pytest.raises(TooManyAttemptsError) as refused:
        attempts.check("a")
    assert refused.value.wait_s == 301
    attempts.succeeded("a")
    attempts.check("a")


def test_memory_of_wrong_tokens_is_bounded() -> None:
    attempts = Attempts(1, lambda: 0.0)
    for i in range(10_000):
        attempts.failed(f"10.0.{i // 256}.{i % 256}")
    assert len(attempts._known) == 4096
