"""Bundles signed with ed25519, and put in place so that the previous one can come back.

bundle.json vouches for every file by its SHA-256; `bundle.sig` signs bundle.json. Keys are 32 bytes in base64: the private key in
a file of its own (mode 0600, kept off the gateway), the public key in service.toml, `[bundle] public_key`.

A folder cannot take another's name in one step, so a kill or a power cut between two renames leaves nothing at the name. Who
opens a bundle then takes the previous one, and the next `install` or `roll_back` tidies up first. Both hold a lock on the folder
around the bundles, which whoever opens one shares: no job reads half of one bundle and half of another
(docs/decisions/0060-a-bundle-is-opened-under-a-lock.md).
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from building.errors import BadBundleError, BadDescriptionError, BundleSignatureError
from models.runtime.bundle import MANIFEST, Bundle, load_bundle
from service.access import write_private

SIGNATURE = "bundle.sig"


def make_key(file: Path) -> str:
    """Make a key pair, write the private key to `file` (mode 0600) and return the public key. Raises BadDescriptionError."""
    if file.exists():
        raise BadDescriptionError(file=file, reason="there is a key already; a new one would void what it signed.")
    key = SigningKey.generate()
    write_private(file, base64.b64encode(bytes(key)).decode() + "\n")
    return public_of(key)


def sign_bundle(folder: Path, key_file: Path) -> str:
    """Sign a bundle that is whole, and return the public key that its signature answers to.

    Raises:
        BadBundleError: see `load_bundle`. BadDescriptionError: no private key in the file.
    """
    load_bundle(folder)
    try:
        key = SigningKey(base64.b64decode(key_file.read_text(encoding="ascii").strip(), validate=True))
    except (OSError, ValueError, binascii.Error) as e:
        raise BadDescriptionError(file=key_file, reason=f"no ed25519 private key (32 bytes, base64): {e}") from e
    signature = key.sign((folder / MANIFEST).read_bytes()).signature
    (folder / SIGNATURE).write_text(base64.b64encode(signature).decode() + "\n", encoding="ascii")
    return public_of(key)


def public_of(key: SigningKey) -> str:
    """Return the public key, base64."""
    return base64.b64encode(bytes(key.verify_key)).decode()


@contextmanager
def opened(folder: Path, public_key: str) -> Iterator[Bundle]:
    """Give the verified bundle at `folder`; inside the block nobody swaps its files. A swap cut short: the previous one.

    Raises:
        BundleSignatureError, BadBundleError, BadDescriptionError: see `open_signed`.
    """
    with _locked(folder.parent, fcntl.LOCK_SH):
        yield open_signed(folder if folder.exists() or not _previous(folder).exists() else _previous(folder), public_key)


def open_signed(folder: Path, public_key: str) -> Bundle:
    """Read and verify a bundle: its signature first (when a key is given), then every file.

    Raises:
        BundleSignatureError: no signature, or not one of this key over this bundle.json. BadDescriptionError: a key that is none.
        BadBundleError: see `load_bundle`.
    """
    if public_key:
        try:
            key = VerifyKey(base64.b64decode(public_key, validate=True))
        except (ValueError, TypeError, binascii.Error) as e:
            raise BadDescriptionError(file="[bundle] public_key", reason=f"not an ed25519 key (32 bytes, base64): {e}") from e
        try:
            manifest = (folder / MANIFEST).read_bytes()
            signature = base64.b64decode((folder / SIGNATURE).read_text(encoding="ascii").strip(), validate=True)
            key.verify(manifest, signature)
        except FileNotFoundError as e:
            missing = Path(str(e.filename)).name
            raise BundleSignatureError(
                path=folder, reason=f"there is no {missing}, and this service only takes signed bundles."
            ) from e
        except (BadSignatureError, ValueError, TypeError, OSError, binascii.Error) as e:
            reason = f"{SIGNATURE} is not the signature of the configured key over this {MANIFEST}: either was changed."
            raise BundleSignatureError(path=folder, reason=reason) from e
    return load_bundle(folder)


def install(source: Path, place: Path, public_key: str, building: str) -> Bundle:
    """Put a new bundle in place once it is verified; what was there becomes `<place>.previous`.

    A job opens its bundle anew, so a running service takes the new one at its next plan.

    Raises:
        BundleSignatureError, BadBundleError: see `open_signed`; also a bundle of another building. Then nothing was changed.
    """
    fresh = place.with_name(f"{place.name}.new")
    place.parent.mkdir(parents=True, exist_ok=True)
    with _locked(place.parent, fcntl.LOCK_EX):
        _tidy(place)
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            shutil.copytree(source, fresh)
            found = open_signed(fresh, public_key)  # the copy: what was looked at is what is used
            if found.building != building:
                raise BadBundleError(path=source, reason=f"it is of '{found.building}', the building is '{building}'.")
        except FileNotFoundError as e:
            raise BadBundleError(path=source, reason="there is no such folder.") from e
        except BadBundleError as e:
            shutil.rmtree(fresh, ignore_errors=True)
            raise type(e)(**{**e.facts, "path": source}) from e
        except OSError as e:
            shutil.rmtree(fresh, ignore_errors=True)
            raise BadBundleError(path=source, reason=f"it could not be copied to {fresh}: {e}. Nothing was changed.") from e
        os.sync()  # a power cut after the renames must not find empty files under the new name
        previous = _previous(place)
        shutil.rmtree(previous, ignore_errors=True)
        if place.exists():
            os.rename(place, previous)
        os.rename(fresh, place)
        return load_bundle(place)


def roll_back(place: Path, public_key: str) -> Bundle:
    """Put the previous bundle back in place; what was there becomes the previous one, so that twice is nothing.

    Raises:
        BadBundleError: there is no previous bundle, or it is damaged or unsigned. Then nothing was changed.
    """
    previous = _previous(place)
    with _locked(place.parent, fcntl.LOCK_EX):
        _tidy(place)
        if not previous.exists():
            raise BadBundleError(path=previous, reason="there is no previous bundle to go back to.")
        open_signed(previous, public_key)
        if place.exists():
            os.rename(place, _aside(place))
        os.rename(previous, place)
        if _aside(place).exists():
            os.rename(_aside(place), previous)
        return load_bundle(place)


def _tidy(place: Path) -> None:
    """Finish what a kill left between two renames: a bundle at `place` again, and the other as the previous one."""
    aside, previous = _aside(place), _previous(place)
    if not place.exists():
        # Of a rollback before its second rename, what was in use; of an install before its last, what it had moved.
        for kept in (aside, previous):
            if kept.exists():
                os.rename(kept, place)
                break
    if aside.exists() and not previous.exists():
        os.rename(aside, previous)
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    """Hold a lock on a folder (it needs no file of its own, so a read-only folder will do); a killed holder holds nothing."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        yield  # there is nothing to lock; what is missing is said by who looks for it
        return
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _aside(place: Path) -> Path:
    return place.with_name(f"{place.name}.aside")


def _previous(place: Path) -> Path:
    return place.with_name(f"{place.name}.previous")
