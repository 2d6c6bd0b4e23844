"""Cancelling connect at any await leaves nothing open, and the client as it was."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import lapwing
from tests.faces.callers import call, steps
from tests.faces.cancelling import cancel_everywhere
from tests.peers import wire
from tests.peers.certificates import Certificates
from tests.peers.raw import RawListener
from tests.peers.servers import ServerThread


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_connect_cancelled_at_every_wait(
    echo_server: ServerThread, runtime: Any, at_once: bool, host: str
) -> None:
    await check_connect(f"ws://{host}:{echo_server.port}/", {**runtime.options}, at_once)


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_connect_over_tls_cancelled_at_every_wait(
    echo_server_tls: ServerThread, tls: Certificates, runtime: Any, at_once: bool
) -> None:
    await check_connect(echo_server_tls.url, {"ssl": tls.client_context(), **runtime.options}, at_once)


async def check_connect(where: str, options: dict[str, Any], at_once: bool) -> None:
    client = lapwing.AsyncClient(**options)

    async def check(cancelled: bool) -> None:
        if cancelled:
            with pytest.raises(RuntimeError, match="connect"):
                await client.receive()
        else:  # the same client connects in the end
            await client.send("hello")
            assert await client.receive() == "hello"
            assert (await client.close())[:2] == (True, 1000)

    waited = await cancel_everywhere(lambda: client.connect(where), check, at_once=at_once)
    assert waited >= 1  # for the opening handshake; within one machine TCP may be there at once


async def test_a_connect_cancelled_closes_its_socket(runtime: Any) -> None:
    with RawListener() as listener:
        client = lapwing.AsyncClient(**runtime.options)
        task = asyncio.create_task(client.connect(listener.url))
        with await call(listener.accept_bare) as peer:
            await call(peer.read_head)
            task.cancel()
            await call(peer.expect_reset_or_end)
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_connect_cancelled_as_the_response_arrives(runtime: Any) -> None:
    for before in range(5):
        with RawListener() as listener:
            client = lapwing.AsyncClient(**runtime.options)
            task = asyncio.create_task(client.connect(listener.url))
            with await call(listener.accept_bare) as peer:
                key = (await call(peer.read_head)).one("sec-websocket-key")
                peer.send(wire.response(key))
                await steps(before)
                task.cancel()
                await asyncio.wait({task})
                if task.cancelled():
                    await call(peer.expect_reset_or_end)
                else:
                    peer.send_close()
                    peer.close()
                    assert (await client.close())[:2] == (True, 1000)
