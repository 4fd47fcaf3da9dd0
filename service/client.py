"""A thin client of the API for scripts and notebooks: standard library and pandas. docs/client.md walks through every route.

client = Client("http://gateway:8080", token)
client.get("setpoints")["settings"]
client.wait(client.plan())
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from building.errors import ApiError

JOBS = {
    "calibration": "calibrations",
    "plan": "plans",
    "savings": "savings",
    "weather": "weather",
    "compaction": "compactions",
    "backup": "backups",
}
"""Kinds of job, and the routes that start them."""


class Client:
    """Asks one service.

    Args:
        url: e.g. ``http://gateway:8080``.
        token: printed at the service's first start; None for an open service.
        timeout_s: for each request.
    """

    def __init__(self, url: str, token: str | None = None, timeout_s: float = 10.0) -> None:
        self.url = url.rstrip("/")
        self.token = token
        self.timeout_s = timeout_s

    def get(self, what: str, **query: Any) -> Any:
        """Return the JSON of ``/v1/<what>``, e.g. ``setpoints``, ``plan``, ``front``, ``status``. Raises ApiError."""
        told = {k: v for k, v in query.items() if v is not None}
        return self._ask("GET", f"/v1/{what}" + ("?" + urllib.parse.urlencode(told, doseq=True) if told else ""))

    def series(
        self,
        variables: Sequence[str],
        start: pd.Timestamp | None = None,
        end: pd.Timestamp | None = None,
        kind: str = "measured",
    ) -> pd.DataFrame:
        """Return hourly series, a column per variable, UTC index, NaN in gaps. Raises ApiError."""
        period = {k: None if t is None else t.isoformat() for k, t in {"start": start, "end": end}.items()}
        answer = self.get("series", variable=list(variables), kind=kind, **period)
        index = pd.DatetimeIndex(pd.to_datetime(answer["stamps"], utc=True))
        return pd.DataFrame({n: block["values"] for n, block in answer["series"].items()}, index=index, dtype=float)

    def text(self, path: str) -> str:
        """Return what is no JSON: ``healthz``, ``readyz``, ``metrics``. Raises ApiError (503 when it is not well)."""
        return self._send("GET", f"/{path}").decode()

    def start(self, kind: str) -> int:
        """Start a job, a key of `JOBS`; return its place in the journal. Raises ApiError (409 while one of its kind runs)."""
        return int(self._ask("POST", f"/v1/{JOBS[kind]}")["job"])

    def calibrate(self) -> int:
        """Start a calibration, as `start` does."""
        return self.start("calibration")

    def plan(self) -> int:
        """Start a plan search, as `start` does."""
        return self.start("plan")

    def what_if(self, base: str, changes: Sequence[Mapping[str, Any]] = (), point: int | None = None) -> dict[str, Any]:
        """Return the coming week under other settings.

        Args:
            base: ``own``, ``plan`` or ``front``.
            changes: each with ``setting`` and ``value`` or ``by``, and if wanted ``start`` and ``end`` (ISO 8601).
            point: of the front.

        Raises:
            ApiError: 503 when nobody can answer now.
        """
        body = {"base": base, "changes": list(changes)} | ({} if point is None else {"point": point})
        answer: dict[str, Any] = self._ask("POST", "/v1/what-if", body)
        return answer

    def add_forecast(self, frame: pd.DataFrame, issued: pd.Timestamp) -> None:
        """Give a forecast: hourly UTC index, a column per weather or occupancy variable. Raises ApiError."""
        body = {
            "issued": issued.isoformat(),
            "start": frame.index[0].isoformat(),
            "series": {str(n): [float(v) for v in frame[n]] for n in frame.columns},
        }
        self._ask("POST", "/v1/forecasts", body)

    def set_mode(self, mode: str, reason: str) -> dict[str, Any]:
        """Change the mode: watch, advise, auto or maintenance. Raises ApiError (403 for a viewer's token)."""
        answer: dict[str, Any] = self._ask("PUT", "/v1/mode", {"mode": mode, "reason": reason})
        return answer

    def confirm(self, plan: int, reason: str) -> None:
        """Confirm a plan: in mode advise its setpoints leave from now on. Raises ApiError."""
        self._ask("POST", f"/v1/plans/{plan}/confirm", {"reason": reason})

    def withdraw(self, plan: int, reason: str) -> None:
        """Withdraw a plan: no mode follows it any more. Raises ApiError."""
        self._ask("POST", f"/v1/plans/{plan}/withdraw", {"reason": reason})

    def hold(self, setting: str, value: float, until: pd.Timestamp, reason: str) -> int:
        """Hold a setting at a value (inside unit) until an instant; return the override's number. Raises ApiError."""
        body = {"setting": setting, "value": float(value), "until": until.isoformat(), "reason": reason}
        return int(self._ask("POST", "/v1/overrides", body)["id"])

    def let_go(self, override: int, reason: str) -> None:
        """Take an override back before its end. Raises ApiError."""
        self._ask("DELETE", f"/v1/overrides/{override}?" + urllib.parse.urlencode({"reason": reason}))

    def create_token(self, name: str, role: str, days: float | None = 365) -> tuple[str, str]:
        """Make a token (admins); return its id and the token, shown this once. Raises ApiError."""
        made = self._ask("POST", "/v1/tokens", {"name": name, "role": role, "days": days})
        return str(made["id"]), str(made["token"])

    def revoke_token(self, token_id: str) -> None:
        """Revoke a token by its id (admins). Raises ApiError."""
        self._ask("DELETE", f"/v1/tokens/{token_id}")

    def wait(self, job: int, timeout_s: float = 1800.0, every_s: float = 0.5) -> dict[str, Any]:
        """Return the journal entry of a job once it has ended. Raises ApiError, also when `timeout_s` passes first."""
        deadline = time.monotonic() + timeout_s
        while True:
            entry: dict[str, Any] = self._ask("GET", f"/v1/jobs/{job}")
            if entry["ended"] is not None:
                return entry
            if time.monotonic() > deadline:
                raise ApiError(
                    url=self.url, code=0, message=f"job {job} still runs after {timeout_s:g} s.", what_to_do="Wait longer."
                )
            time.sleep(every_s)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            return json.loads(self._send(method, path, body))
        except ValueError as e:
            what_to_do = "Is this the address of a setwise service?"
            raise ApiError(url=self.url, code=0, message=str(e), what_to_do=what_to_do) from e

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, method=method)
        if self.token is not None:
            request.add_header("Authorization", f"Bearer {self.token}")
        data = None
        if method == "POST":  # sent again by a proxy or a retry, it is still done once
            request.add_header("Idempotency-Key", uuid.uuid4().hex)
        if body is not None:
            data = json.dumps(body, allow_nan=False).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, data, timeout=self.timeout_s) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as e:
            said = e.read()
            try:
                problem = json.loads(said)
                message, what_to_do = problem["message"], problem["what_to_do"]
            except (ValueError, KeyError, TypeError):
                message, what_to_do = said[:200].decode(errors="replace") or str(e), "Is this the address of a setwise service?"
            raise ApiError(url=self.url, code=e.code, message=message, what_to_do=what_to_do) from e
        except (OSError, ValueError) as e:
            what_to_do = "Is the service running, and is this its address?"
            raise ApiError(url=self.url, code=0, message=str(e), what_to_do=what_to_do) from e
