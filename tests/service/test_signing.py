"""Signed bundles: a swapped file, a missing or a wrong signature is refused; the previous bundle comes back."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from recovery import Recovery

from building.errors import BadBundleError, BadDescriptionError, BundleChecksumError, BundleSignatureError
from models.runtime.bundle import load_bundle, sha256
from service.signing import install, make_key, open_signed, opened, roll_back, sign_bundle

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


def made_at(bundle: Path, created: str, key: Path) -> Path:
    """Change when a bundle says it was made, and sign it again."""
    facts = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**facts, "created": created}))
    sign_bundle(bundle, key)
    return bundle


KILLED = """
import os, signal, sys
from pathlib import Path
from service import signing
n, place, key, source = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
whole = os.rename
def rename(*names):
    global n
    if n == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    n -= 1
    whole(*names)
os.rename = rename
if sys.argv[5] == "install":
    signing.install(source, place, key, "medium_office")
else:
    signing.roll_back(place, key)
"""


@pytest.mark.faults("bundle swap killed")
@pytest.mark.parametrize(("verb", "n_renames"), [("install", 2), ("rollback", 3)])
def test_kill_9_between_the_renames_of_a_swap_leaves_a_whole_bundle_and_a_way_on(
    bundle: Path, key: tuple[Path, str], tmp_path: Path, recovery: Recovery, verb: str, n_renames: int
) -> None:
    for n in range(n_renames):
        place = tmp_path / f"{verb}{n}" / "in_use"
        shutil.copytree(made_at(bundle, "2029", key[0]), place.with_name("in_use.previous"))
        shutil.copytree(made_at(bundle, "2030", key[0]), place)
        made_at(bundle, "2031", key[0])
        program = [sys.executable, "-c", KILLED, str(n), str(place), key[1], str(bundle), verb]
        assert subprocess.run(program, cwd=SHIPPED.parents[1]).returncode == -9
        with recovery, opened(place, key[1]) as found:
            assert found.created in ({"2030"} if verb == "install" else {"2029", "2030"})
        if verb == "rollback":
            assert roll_back(place, key[1]).created in {"2029", "2030"}  # both are still there
            assert roll_back(place, key[1]).created in {"2029", "2030"}
        assert install(bundle, place, key[1], "medium_office").created == "2031"
        assert roll_back(place, key[1]).created in {"2029", "2030"}
        assert sorted(p.name for p in place.parent.iterdir()) == ["in_use", "in_use.previous"]


@pytest.mark.faults("bundle swapped")
def test_bundle_swapped_while_jobs_open_it_is_never_read_half_old_half_new(
    bundle: Path, key: tuple[Path, str], tmp_path: Path, recovery: Recovery
) -> None:
    """The graph of each differs from the other's, so a mixture would fail its checksum."""
    place, fresh = tmp_path / "bundles" / "in_use", tmp_path / "fresh"
    shutil.copytree(made_at(bundle, "2030", key[0]), place)
    shutil.copytree(bundle, fresh)
    facts = json.loads((fresh / "bundle.json").read_text())
    (fresh / "CARD.md").write_text("another card\n")
    facts["sha256"]["CARD.md"] = sha256(fresh / "CARD.md")
    (fresh / "bundle.json").write_text(json.dumps(facts))
    made_at(fresh, "2031", key[0])
    is_over, seen, faults = threading.Event(), [], []

    def read() -> None:
        while not is_over.is_set():
            try:
                with opened(place, key[1]) as found:
                    seen.append((found.created, (found.folder / "CARD.md").read_text() == "another card\n"))
            except Exception as e:
                faults.append(e)
            is_over.wait(0.02)  # jobs are rare; readers without a pause would starve who wants the lock alone

    readers = [threading.Thread(target=read) for _ in range(2)]
    for r in readers:
        r.start()
    try:
        install(fresh, place, key[1], "medium_office")
        n_swaps = 0
        while n_swaps < 20 or (len(set(seen)) < 2 and n_swaps < 1000):  # a busy machine may let a reader in rarely
            with recovery:
                roll_back(place, key[1])
            n_swaps += 1
    finally:
        is_over.set()
        for r in readers:
            r.join()
    assert faults == [] and set(seen) == {("2030", False), ("2031", True)}


def test_bundle_folder_that_cannot_be_written_is_said_and_the_one_in_use_stays(
    bundle: Path, key: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_bundle(bundle, key[0])
    place = Path(shutil.copytree(bundle, tmp_path / "in_use"))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(BadBundleError, match=r"could not be copied .*No space left on device.*Nothing was changed"):
        install(bundle, place, key[1], "medium_office")
    assert load_bundle(place).building == "medium_office"
