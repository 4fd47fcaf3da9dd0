"""Numbers, instants and paths. The parsers under a flood of nonsense: test_fuzz_payloads.py."""

from __future__ import annotations

import math

import pytest

from service.payloads import EVERY, at, every, instant_ms, number_in, path_of

T_MS = 1_767_798_000_000  # 2026-01-07T15:00Z


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ("a",)),
        ("a.b.0", ("a", "b", "0")),
        ("a[0].b", ("a", "0", "b")),
        ('["a.b"].c', ("a.b", "c")),
        ("a[name=x y].v", ("a", ("name", "x y"), "v")),
        ("a[*].v", ("a", EVERY, "v")),
        ("[*]", (EVERY,)),
    ],
)
def test_path_is_read_step_by_step(text: str, expected: tuple[object, ...]) -> None:
    assert path_of(text) == expected


@pytest.mark.parametrize("text", ["", ".a", "a..b", "a[", "a]", "a[b", "a[*].b[*]", "a."])
def test_path_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"path|more than one"):
        path_of(text)


def test_common_values_stand_beside_every_item() -> None:
    data = {"t": 5, "s": [{"v": 1}, {"v": 2, "u": "K"}]}
    found = list(every(data, (path_of("s[*].v"), path_of("t"), path_of("s[*].u"))))
    assert [f[:2] for f in found] == [(1, 5), (2, 5)] and isinstance(found[0][2], LookupError) and found[1][2] == "K"
    with pytest.raises(LookupError, match="nothing at 'x'"):
        at(data, ("x",))


@pytest.mark.parametrize(
    ("given", "is_share", "expected"),
    [
        (21, False, 21.0), (" 21.5 ", False, 21.5), ("-1e3", False, -1000.0), ("+.5", False, 0.5), ("5.", False, 5.0),
        ("on", True, 1.0), ("Off", True, 0.0), (True, True, 1.0), ("on", False, None), (True, False, None), ("1_0", False, None),
        ("1,0", False, None), ("0x1", False, None), ("inf", False, None), ("nan", False, None), ("", False, None),
        ("٣", False, None), ("1e999", False, None), ("\x1c0", False, None),
        (10**400, False, None), (None, True, None), ([1], False, None), (math.nan, False, None),
    ],
)  # fmt: skip
def test_only_plain_numbers_are_numbers(given: object, is_share: bool, expected: float | None) -> None:
    assert number_in(given, is_share) == expected


@pytest.mark.parametrize(
    ("given", "how", "zone", "expected"),
    [
        ("2026-01-07T15:00:00Z", "iso", "UTC", T_MS),
        ("2026-01-07T09:00", "iso", "America/Chicago", T_MS),
        ("2026-01-07 15:00:00.250+00:00", "iso", "UTC", T_MS + 250),
        (T_MS / 1000, "s", "UTC", T_MS),
        (str(T_MS), "ms", "UTC", T_MS),
    ],
)
def test_instants_are_read_in_every_format(given: object, how: str, zone: str, expected: int) -> None:
    assert instant_ms(given, how, zone) == expected


@pytest.mark.parametrize(
    ("given", "how"),
    [("2026-01-07", "iso"), ("01/07/2026 15:00", "iso"), (T_MS, "iso"), (None, "iso"), ("2026-13-07T15:00", "iso"), (True, "s"),
     ("soon", "s"), (1e300, "ms"), (math.inf, "s"), ("2026-11-01T01:30", "iso"), ("2026-03-08T02:30", "iso")],
)  # fmt: skip
def test_doubtful_instants_are_refused(given: object, how: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        instant_ms(given, how, "America/Chicago")
