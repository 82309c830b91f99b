"""Who may see the page: loopback names only, a token, and nothing but reading. Plain ASGI.

Any user of the machine can connect to a loopback port, and so can any page in the user's browser:
the token keeps the first out, the check of the Host header the second (a foreign name that resolves
to 127.0.0.1), and the headers forbid that a page of ours loads or is loaded by anything else.
"""

from __future__ import annotations

import hashlib
import hmac
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_UNKNOWN_CALLER: Final = (
    "This page needs its token: open the whole address that `mixserver watch` printed.\n"
)


class Guard:
    """Lets requests through to an app that may be answered, and sets the headers of answers.

    Args:
        app: what is guarded.
        token: once in the address as ?token=..., afterwards in a cookie; or in a header
            "Authorization: Bearer ...".
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()
        # pages of several runs on one machine share their cookies: ports do not tell them apart
        self._cookie = f"mixserver-{hashlib.sha256(self._token).hexdigest()[:12]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if new:
                    headers.append(
                        "Set-Cookie",
                        f"{self._cookie}={self._token.decode()}; HttpOnly; SameSite=Strict; Path=/",
                    )
            await send(message)

        new = False
        headers = Headers(scope=scope)
        refusal = _refusal(scope["method"], headers.getlist("host"))
        if refusal is None:
            given = _in_query(scope)
            new = given is not None and self._is_right(given)
            if not new and not any(map(self._is_right, self._carried(headers))):
                refusal = HTTPStatus.FORBIDDEN, _UNKNOWN_CALLER
        app = self._app if refusal is None else PlainTextResponse(refusal[1], refusal[0])
        await app(scope, receive, guarded)

    def _carried(self, headers: Headers) -> list[str]:
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        found = [bearer] if kind.lower() == "bearer" else []
        return [*found, cookie_parser(headers.get("cookie", "")).get(self._cookie, "")]

    def _is_right(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._token)


def _refusal(method: str, hosts: list[str]) -> tuple[HTTPStatus, str] | None:
    if method not in ("GET", "HEAD"):
        return HTTPStatus.METHOD_NOT_ALLOWED, "This page only shows: it takes GET and HEAD.\n"
    if len(hosts) != 1 or _name(hosts[0]) not in _LOOPBACK:
        return HTTPStatus.MISDIRECTED_REQUEST, (
            "This page answers at 127.0.0.1 and localhost only. From another machine come through "
            "a tunnel: ssh -L PORT:127.0.0.1:PORT HOST\n"
        )
    return None


def _name(host: str) -> str:
    """The host of a Host header, without its port; a tunnel's port may be another."""
    name, colon, port = host.rpartition(":")
    return name.lower() if colon and port.isascii() and port.isdigit() else host.lower()


def _in_query(scope: Scope) -> str | None:
    """The token in the page's own address."""
    if scope["path"] != "/":
        return None
    given = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=8).get("token")
    return given[0] if given else None
