"""Signed bundles: a swapped file, a missing or a wrong signature is refused; the previous bundle comes back."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest

from building.errors import BadBundleError, BadDescriptionError, BundleChecksumError, BundleSignatureError
from models.runtime.bundle import load_bundle
from service.signing import install, make_key, open_signed, roll_back, sign_bundle

SHIPPED = Path(__file__).resolve().parents[2] / "bundles" / "medium_office"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "made"))


@pytest.fixture
def key(tmp_path: Path) -> tuple[Path, str]:
    file = tmp_path / "signing.key"
    return file, make_key(file)


def test_signed_bundle_opens_with_the_key_it_was_signed_with(bundle: Path, key: tuple[Path, str]) -> None:
    assert sign_bundle(bundle, key[0]) == key[1]
    assert open_signed(bundle, key[1]).building == "medium_office"
    assert stat.S_IMODE(key[0].stat().st_mode) == 0o600


def test_unsigned_bundle_opens_only_where_no_key_is_configured(bundle: Path, key: tuple[Path, str]) -> None:
    assert open_signed(bundle, "").building == "medium_office"
    with pytest.raises(BundleSignatureError, match="there is no bundle.sig, and this service only takes signed bundles"):
        open_signed(bundle, key[1])


def test_bundle_signed_by_another_is_refused(bundle: Path, key: tuple[Path, str], tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    make_key(other)
    sign_bundle(bundle, other)
    with pytest.raises(BundleSignatureError, match="not the signature of the configured key"):
        open_signed(bundle, key[1])


@pytest.mark.parametrize("text", ["", "AAAA", "no base64!", "é"])
def test_signature_that_is_none_is_refused(bundle: Path, key: tuple[Path, str], text: str) -> None:
    (bundle / "bundle.sig").write_text(text)
    with pytest.raises(BundleSignatureError):
        open_signed(bundle, key[1])


def test_swapped_graph_is_refused_even_with_its_new_checksum(bundle: Path, key: tuple[Path, str]) -> None:
    sign_bundle(bundle, key[0])
    graph = bundle / "graph.onnx"
    graph.write_bytes(graph.read_bytes() + b"x")
    with pytest.raises(BundleChecksumError, match=r"sha256 of 'graph.onnx'"):
        open_signed(bundle, key[1])
    facts = json.loads((bundle / "bundle.json").read_text())
    import hashlib

    facts["sha256"]["graph.onnx"] = hashlib.sha256(graph.read_bytes()).hexdigest()
    (bundle / "bundle.json").write_text(json.dumps(facts))
    with pytest.raises(BundleSignatureError):
        open_signed(bundle, key[1])


def test_key_that_is_none_is_said(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BadDescriptionError, match="public_key"):
        open_signed(bundle, "short")
    (tmp_path / "bad.key").write_text("short")
    with pytest.raises(BadDescriptionError, match="no ed25519 private key"):
        sign_bundle(bundle, tmp_path / "bad.key")


def test_new_bundle_is_installed_and_the_previous_comes_back(bundle: Path, key: tuple[Path, str], tmp_path: Path) -> None:
    sign_bundle(bundle, key[0])
    place = Path(shutil.copytree(bundle, tmp_path / "in_use"))
    facts = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**facts, "created": "2030-01-01T00:00:00Z"}))
    sign_bundle(bundle, key[0])
    assert install(bundle, place, key[1], "medium_office").created == "2030-01-01T00:00:00Z"
    assert roll_back(place, key[1]).created == facts["created"]
    assert roll_back(place, key[1]).created == "2030-01-01T00:00:00Z"


def test_bad_bundle_is_not_installed_and_the_one_in_use_stays(bundle: Path, key: tuple[Path, str], tmp_path: Path) -> None:
    sign_bundle(bundle, key[0])
    place = Path(shutil.copytree(bundle, tmp_path / "in_use"))
    with pytest.raises(BadBundleError, match="the building is 'two_node'"):
        install(bundle, place, key[1], "two_node")
    (bundle / "bundle.sig").unlink()
    with pytest.raises(BundleSignatureError) as refused:
        install(bundle, place, key[1], "medium_office")
    assert refused.value.path == bundle and sorted(p.name for p in tmp_path.iterdir()) == ["in_use", "made", "signing.key"]
    assert load_bundle(place).building == "medium_office"
    with pytest.raises(BadBundleError, match="no previous bundle"):
        roll_back(place, key[1])
