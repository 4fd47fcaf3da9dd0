"""What stands between a stranger's socket and the API: limits of time and size, and the headers of every answer.

Written as ASGI, because only there a slow sender and a slow reader look the same: a request that has not been answered within its
time is cut off, whichever side dawdles. What comes before ASGI (a line opened, half a header sent) is `Hasty`'s.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""On every answer, errors too. No CORS header is ever sent: a page of another origin cannot read an answer."""
_SAFE = ("GET", "HEAD", "OPTIONS")


class Gate:
    """Limits of one application, and its headers.

    Args:
        app: what is behind.
        max_body_bytes: a larger request is answered 413.
        limit_s: a request not answered within this is answered 408, or cut off.
        is_tls: also tell browsers to come back by HTTPS only.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, limit_s: float, is_tls: bool) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.limit_s = limit_s
        self.headers = {**HEADERS, **({"Strict-Transport-Security": "max-age=31536000"} if is_tls else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        told = Headers(scope=scope)
        has_started = False

        async def dressed(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers[name] = value
                if scope["path"].startswith("/v1") or scope["path"] == "/metrics":
                    headers["Cache-Control"] = "no-store"
            await send(message)

        async def refuse(code: int, error: str, message: str, what_to_do: str) -> None:
            body = json.dumps({"error": error, "message": message, "facts": {}, "what_to_do": what_to_do}).encode()
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            await dressed({"type": "http.response.start", "status": code, "headers": headers})
            await dressed({"type": "http.response.body", "body": body})

        if scope["method"] not in _SAFE and not _is_same_origin(told):
            said = "a page of another origin may not act here."
            await refuse(403, "ForeignOriginError", said, "Send the request from the service's own page, or without a browser.")
            return
        try:
            async with asyncio.timeout(self.limit_s):
                body = await self._body(told, receive)
                if body is None:
                    said = f"the request is larger than {self.max_body_bytes // 1024} kB."
                    await refuse(413, "RequestTooLargeError", said, "Send less at a time.")
                    return
                await self.app(scope, _replayed(body, receive), dressed)
        except TimeoutError:
            if has_started:
                raise  # the answer cannot be taken back; the line is closed
            said = f"the request took longer than {self.limit_s:g} s."
            await refuse(408, "RequestTimeoutError", said, "Send it again, at once.")

    async def _body(self, told: Headers, receive: Receive) -> bytes | None:
        """Return the whole body, or None when it is too large, whatever its header says."""
        length = told.get("content-length", "0")
        if length.isdigit() and int(length) > self.max_body_bytes:
            return None
        body = b""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return body
            body += bytes(message.get("body", b""))
            if len(body) > self.max_body_bytes:
                return None
            if not message.get("more_body", False):
                return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    is_told = False

    async def again() -> Message:
        nonlocal is_told
        if is_told:
            return await receive()
        is_told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _is_same_origin(told: Headers) -> bool:
    """Browsers name the page that sends; other clients send no Origin. Matters most where no token is asked."""
    origin = told.get("origin")
    return origin is None or urlsplit(origin).netloc == told.get("host")


class Hasty(H11Protocol):
    """uvicorn's protocol, which hangs up on a line that has not brought a whole header within `limit_s`."""

    limit_s = 30.0

    @classmethod
    def within(cls, limit_s: float) -> type[Hasty]:
        """Return the protocol with its limit."""
        return cast("type[Hasty]", type("Hasty", (cls,), {"limit_s": limit_s}))

    def connection_made(self, transport: Any) -> None:
        """Start waiting for the first header."""
        super().connection_made(transport)
        self._patience = self.loop.call_later(self.limit_s, self._hang_up)

    def data_received(self, data: bytes) -> None:
        """Stop waiting once a header is whole; wait anew while the next one trickles in."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._patience.cancel()
        elif self._patience.cancelled():
            self._patience = self.loop.call_later(self.limit_s, self._hang_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._patience.cancel()
        super().connection_lost(exc)

    def _hang_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
