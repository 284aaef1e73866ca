"""Bodies: limited in size, time and memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from starlette.requests import Request

from edgefel.serve.bodies import Bodies
from edgefel.serve.limits import Limits
from edgefel.serve.problems import Problem


def request(*chunks: bytes, announced: int | None = None, then: Callable | None = None) -> Request:
    """A request whose body comes in chunks; `then` is awaited for what follows them."""
    left = list(chunks)

    async def receive():
        await asyncio.sleep(0)
        if left:
            return {"type": "http.request", "body": left.pop(0), "more_body": bool(left) or then is not None}
        return await then()

    headers = [] if announced is None else [(b"content-length", str(announced).encode())]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


async def forever():
    await asyncio.sleep(3600)


async def gone():
    return {"type": "http.disconnect"}


def read(bodies: Bodies, one: Request, most: int | None = None) -> bytes:
    async def run() -> bytes:
        async with bodies.read(one, most) as body:
            assert bodies.held == len(body)
            return body

    return asyncio.run(run())


def refused(bodies: Bodies, one: Request, most: int | None = None) -> Problem:
    with pytest.raises(Problem) as raised:
        read(bodies, one, most)
    assert bodies.held == 0
    # the rest of the body is not read, so the connection cannot go on
    assert raised.value.headers["Connection"] == "close"
    return raised.value


def test_a_body_is_its_chunks_and_its_memory_is_given_back():
    bodies = Bodies(Limits())
    assert read(bodies, request(b"ab", b"", b"c")) == b"abc"
    assert bodies.held == 0


@pytest.mark.parametrize("announced", [None, 11, 10**18])
@pytest.mark.parametrize("most", [None, 9])
def test_too_large(announced, most):
    bodies = Bodies(Limits(body=10, memory=100))
    assert refused(bodies, request(b"12345", b"678901", announced=announced), most).status == 413


@pytest.mark.parametrize("announced", ["", "x", "-1", "٣"])
def test_an_odd_length_is_not_believed(announced):
    one = request(b"abc")
    one.scope["headers"] = [(b"content-length", announced.encode())]
    assert read(Bodies(Limits()), one) == b"abc"


def test_too_slow():
    problem = refused(Bodies(Limits(request=0.05)), request(b"a", then=forever))
    assert (problem.status, problem.reason) == (408, "request-timeout")


def test_cut_off():
    assert refused(Bodies(Limits()), request(b"a", then=gone)).status == 400


def test_no_memory_for_another_body():
    async def run() -> None:
        bodies = Bodies(Limits(body=10, memory=15))
        async with bodies.read(request(b"1234567890")):
            with pytest.raises(Problem) as raised:
                async with bodies.read(request(b"1234567890")):
                    pass
            assert (raised.value.status, raised.value.headers["Retry-After"]) == (503, "1")
        async with bodies.read(request(b"1234567890")) as body:
            assert len(body) == 10

    asyncio.run(run())
