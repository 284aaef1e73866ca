"""Token, cookie, Host, Origin, rate, and the headers of every answer."""

from __future__ import annotations

import pytest

from edgefel.serve.guard import HEADERS

TOKEN = "a token of 24 characters"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
LOCKED = ["/v1/model", "/metrics", "/v1/live.mjpg"]


@pytest.mark.parametrize("path", ["/", "/v1/model", "/nowhere", "/static/nothing.js"])
def test_every_answer_has_the_headers(client, path):
    answer = client.get(path)
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "access-control-allow-origin" not in answer.headers
    assert "server" not in answer.headers


@pytest.mark.parametrize("path", LOCKED)
def test_the_token_is_needed(make_client, path):
    client = make_client(token=TOKEN)
    refused = client.get(path)
    assert (refused.status_code, refused.json()["reason"]) == (401, "unauthorized")
    assert refused.headers["www-authenticate"].startswith("Bearer")
    wrong = client.get(path, headers={"Authorization": f"Bearer {TOKEN}x"})
    assert (wrong.status_code, wrong.json()["reason"]) == (401, "wrong-token")
    assert client.get(path, headers=BEARER).status_code in (200, 404)
    assert client.get(f"{path}?token={TOKEN}").status_code == 401


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/openapi.json"])
def test_page_and_health_need_none(make_client, path):
    assert make_client(token=TOKEN).get(path).status_code == 200


def test_a_browser_gets_a_cookie_for_the_token(make_client):
    client = make_client(token=TOKEN)
    assert client.post("/login", data={"token": "wrong"}).status_code == 401
    assert client.get("/v1/model").status_code == 401
    answer = client.post("/login", data={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 204
    assert TOKEN not in cookie
    for attribute in ("HttpOnly", "SameSite=strict", "Path=/"):
        assert attribute in cookie
    assert client.get("/v1/model").status_code == 200
    client.post("/logout")
    assert client.get("/v1/model").status_code == 401


def test_a_cookie_of_another_process_is_none(make_client):
    client, other = make_client(token=TOKEN), make_client(token=TOKEN)
    other.post("/login", data={"token": TOKEN})
    client.cookies = other.cookies
    assert client.get("/v1/model").status_code == 401


def test_guessing_is_slowed_down_and_does_not_lock_out_a_logged_in_browser(make_client):
    client = make_client(token=TOKEN)
    client.post("/login", data={"token": TOKEN})
    statuses = [client.post("/login", data={"token": f"guess {number}"}).status_code for number in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    assert client.get("/v1/model").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "10.0.0.7:8000", "a@127.0.0.1"]
)
def test_another_host_is_refused(client, host):
    answer = client.get("/", headers={"Host": host})
    assert (answer.status_code, answer.json()["reason"]) == (403, "wrong-host")


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST"])
def test_this_machine_is_known_by_its_names(client, host):
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_a_server_for_others_is_known_by_addresses_and_allowed_names(make_client):
    client = make_client(token=TOKEN, host="0.0.0.0", allowed=("cam.example",))
    for host, status in (("192.168.1.5:8000", 200), ("cam.example", 200), ("evil.example", 403)):
        assert client.get("/healthz", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8000", 200),
        ("http://127.0.0.1:8001", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("https://127.0.0.1:8000", 200),  # behind a proxy that does TLS
        ("http://127.0.0.1:8000/x", 403),
        (None, 200),
    ],
)
def test_pages_of_other_sites_may_not_post(client, photo, origin, status):
    headers = {} if origin is None else {"Origin": origin}
    assert client.post("/v1/faces", content=photo, headers=headers).status_code == status


def test_too_many_requests_are_refused_until_time_has_passed(make_client):
    client = make_client(rate=1.0, burst=3)
    statuses = [client.get("/v1/model").status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    answer = client.get("/v1/model")
    assert answer.headers["retry-after"] == "1"
    assert client.get("/healthz").status_code == 200
