"""The page is for those who have its token, at loopback names, and to read."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.types import ASGIApp
from watched_folder import TOKEN, app_of, ask, record, run_folder

PATHS = ("/", "/watch.js", "/3Dmol-min.js", "/api/state", "/api/curves", "/api/frames/0", "/no")


@pytest.fixture
def app(tmp_path: Path) -> ASGIApp:
    folder = run_folder(tmp_path)
    record(folder, 2, regions_every=1)
    return app_of(folder)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], f"{TOKEN}x", TOKEN.upper()])
async def test_without_the_token_nothing_is_told(
    app: ASGIApp, path: str, token: str | None
) -> None:
    found = await ask(app, path, token=token)
    assert found.status_code == 403
    assert "mixserver watch" in found.text
    assert "set-cookie" not in found.headers


async def test_the_token_in_the_address_becomes_a_cookie(app: ASGIApp) -> None:
    found = await ask(app, f"/?token={TOKEN}", token=None)
    assert found.status_code == 200
    assert found.headers["content-type"].startswith("text/html")
    cookie = found.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    again = await ask(app, "/api/state", token=None, cookie=cookie.partition(";")[0])
    assert again.status_code == 200
    assert "set-cookie" not in again.headers


@pytest.mark.parametrize(
    "query", ["token=wrong", "token=", "token", "token=%ff%00", f"Token={TOKEN}", "token=\u00e4"]
)
async def test_a_wrong_token_in_the_address(app: ASGIApp, query: str) -> None:
    found = await ask(app, f"/?{query}", token=None)
    assert found.status_code == 403
    assert "set-cookie" not in found.headers


async def test_the_address_of_an_answer_takes_no_token(app: ASGIApp) -> None:
    assert (await ask(app, f"/api/state?token={TOKEN}", token=None)).status_code == 403


@pytest.mark.parametrize("cookie", ["", "=", "mixserver-000000000000=right-token", "a; b;;=c"])
async def test_other_cookies_do_not_help(app: ASGIApp, cookie: str) -> None:
    assert (await ask(app, "/", token=None, cookie=cookie)).status_code == 403


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8765", "127.0.0.1.evil.example", "10.0.0.1", "localhost."),
        *("", "0.0.0.0:8765", "[::2]:8765", "127.0.0.1:8765:80", "localhost@evil.example"),
    ],
)
async def test_a_foreign_name_is_refused_even_with_the_token(app: ASGIApp, host: str) -> None:
    found = await ask(app, "/api/state", host=host)
    assert found.status_code == 421
    assert "127.0.0.1" in found.text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "LOCALHOST:9000", "[::1]:8765"])
async def test_a_tunnel_may_have_another_port(app: ASGIApp, host: str) -> None:
    assert (await ask(app, "/api/state", host=host)).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/api/state"])
async def test_nothing_can_be_written(app: ASGIApp, path: str, method: str) -> None:
    assert (await ask(app, path, method=method)).status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        *("/../access.py", "/..%2faccess.py", "/%2e%2e/access.py", "//etc/passwd", "/watch.js/"),
        *("/api/frames/..%2f0", "/page/watch.js", "/api/frames/-1", "/api/frames/1e3"),
    ],
)
async def test_no_other_file_is_served(app: ASGIApp, path: str) -> None:
    assert (await ask(app, path)).status_code in (404, 307)


@pytest.mark.parametrize("number", ["3", "999999999999999999999999"])
async def test_a_frame_that_is_not_there(app: ASGIApp, number: str) -> None:
    await ask(app, "/api/state")
    assert (await ask(app, f"/api/frames/{number}")).status_code == 404


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("token", [TOKEN, None])
async def test_every_answer_forbids_other_hosts_and_guessing(
    app: ASGIApp, path: str, token: str | None
) -> None:
    headers = (await ask(app, path, token=token)).headers
    policy = dict(
        part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
