"""Make what a broker with TLS and passwords needs: an authority, its certificate, a certificate and a password per client.

    python3 scripts/broker_secrets.py secrets --host broker.example --host 192.0.2.10 --client setwise --client bms

A folder for each party, readable by its owner alone; hand each its own and nothing else:

    secrets/authority    ca.crt, ca.key: keep it off the gateway
    secrets/broker       ca.crt, server.crt, server.key (for the names and addresses given, localhost, mosquitto and
                         this machine's name), passwords (hashed, as mosquitto wants them)
    secrets/setwise      ca.crt, client.crt, client.key, password; the same for each client

What is there stays: run it again with another --client; delete a party's folder to give it new ones. Certificates last
--days (825), the authority ten years. Needs openssl; standard library only.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import ipaddress
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
from pathlib import Path

CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
ROUNDS = 1000
"""Of PBKDF2; the passwords have 192 random bits, so that rounds add nothing."""


def openssl(*words: str) -> None:
    """Run openssl; exit with its words where it fails."""
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"openssl {words[0]} failed: {done.stderr.strip()[-500:]}")


def make_authority(folder: Path) -> None:
    """Make ca.crt and ca.key."""
    openssl(
        "req", "-x509", *CURVE, "-days", "3650", "-subj", "/CN=setwise building authority",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.crt"),
    )  # fmt: skip


def make_certificate(authority: Path, stem: Path, name: str, days: int, alternatives: list[str] | None = None) -> None:
    """Make STEM.key and STEM.crt, signed by the authority; of a server where it has names, else of a client.

    Args:
        authority: folder of ca.crt and ca.key.
        stem: where, without suffix.
        name: common name.
        days: how long it holds.
        alternatives: names and addresses of a server.
    """
    request, wishes = stem.with_suffix(".csr"), stem.with_suffix(".ext")
    usage = "serverAuth" if alternatives else "clientAuth"
    lines = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature", f"extendedKeyUsage={usage}"]
    if alternatives:
        lines.append("subjectAltName=" + ",".join(f"{'IP' if is_address(a) else 'DNS'}:{a}" for a in alternatives))
    wishes.write_text("\n".join(lines), encoding="utf-8")
    openssl("req", "-new", *CURVE, "-subj", f"/CN={name}", "-keyout", str(stem.with_suffix(".key")), "-out", str(request))
    openssl(
        "x509", "-req", "-in", str(request), "-CA", str(authority / "ca.crt"), "-CAkey", str(authority / "ca.key"),
        "-set_serial", f"0x{secrets.token_hex(16)}", "-days", str(days), "-extfile", str(wishes),
        "-out", str(stem.with_suffix(".crt")),
    )  # fmt: skip
    request.unlink()
    wishes.unlink()
    shutil.copyfile(authority / "ca.crt", stem.parent / "ca.crt")


def is_address(text: str) -> bool:
    """Say whether it is an IP address rather than a name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def hashed(password: str) -> str:
    """Return a password as mosquitto 2 keeps it: PBKDF2 with SHA-512."""
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ROUNDS)
    return f"$7${ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def main() -> None:
    """Make what is missing; say what was made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", action="append", default=[], help="name or address that clients reach the broker by; repeat")
    parser.add_argument("--client", action="append", default=[], help="a client; repeat (setwise and bms when none is given)")
    parser.add_argument("--days", type=int, default=825, help="how long certificates hold")
    asked = parser.parse_args()
    clients = asked.client or ["setwise", "bms"]
    for name in clients:
        if not re.fullmatch(r"[a-z0-9_-]+", name) or name in ("authority", "broker"):
            sys.exit(f"client '{name}': small letters, digits, - and _ make a name; authority and broker are taken")
    if shutil.which("openssl") is None:
        sys.exit("openssl is not installed (apt-get install openssl)")
    os.umask(0o077)
    folder: Path = asked.folder
    authority, broker = folder / "authority", folder / "broker"
    made = []
    if not authority.exists():
        authority.mkdir(parents=True)
        make_authority(authority)
        made.append("authority")
    if not broker.exists():
        broker.mkdir()
        names = list(dict.fromkeys(["localhost", "127.0.0.1", "mosquitto", socket.gethostname(), *asked.host]))
        make_certificate(authority, broker / "server", "broker", asked.days, names)
        made.append("broker")
    for name in clients:
        if not (folder / name).exists():
            (folder / name).mkdir()
            make_certificate(authority, folder / name / "client", name, asked.days)
            (folder / name / "password").write_text(secrets.token_urlsafe(24) + "\n", encoding="utf-8")
            made.append(name)
    known = {p.parent.name: p.read_text(encoding="utf-8").strip() for p in sorted(folder.glob("*/password"))}
    (broker / "passwords").write_text("".join(f"{n}:{hashed(p)}\n" for n, p in known.items()), encoding="utf-8")
    print(f"folder={folder} made={','.join(made) or 'nothing'}")


if __name__ == "__main__":
    main()
