"""Transports of the event loop as carriers: what is refused. All other tests of the faces run on them, too."""

from __future__ import annotations

from typing import Any

import pytest

import lapwing
from tests.peers.servers import echo


async def test_a_client_in_a_thread_has_no_transport() -> None:
    with pytest.raises(ValueError, match=r"carrier='transport' is for AsyncClient"):
        lapwing.Client(carrier="transport")


@pytest.mark.parametrize("option", ["pigeon", None, 1])
async def test_an_unknown_carrier(option: Any) -> None:
    with pytest.raises(ValueError, match=r"expected carrier to be one of 'descriptor', 'transport', got "):
        lapwing.AsyncClient(carrier=option)
    with pytest.raises(ValueError, match=r"expected carrier to be one of 'descriptor', 'transport', got "):
        lapwing.listen(0, default=echo, carrier=option)


async def test_a_handler_in_a_thread_needs_a_descriptor() -> None:
    def plain(ws: lapwing.BlockingConnection) -> None:
        raise AssertionError

    with pytest.raises(ValueError, match=r"expected the handler of 'x' to be an 'async def' function"):
        lapwing.listen(0, protocols={"x": plain}, default=echo, carrier="transport")
    with pytest.raises(
        ValueError, match=r"Leave out carrier='transport', or make it 'async def' and await asyncio\.to_th"
    ):
        lapwing.listen(0, default=plain, carrier="transport")
