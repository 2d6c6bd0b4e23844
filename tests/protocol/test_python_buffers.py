"""Messages whose `__buffer__` is Python code (3.12 and later), which uses the endpoint that is sending them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from lapwing.protocol import ConnectionClosed, Endpoint, Role
from tests.conftest import HAS_PYTHON_BUFFERS
from tests.protocol.machine import *

if not HAS_PYTHON_BUFFERS:
    pytest.skip("an object with a __buffer__ in Python takes Python 3.12", allow_module_level=True)


class ActingBuffer:
    """A message whose bytes are computed when they are asked for."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    def __buffer__(self, flags: int) -> memoryview:
        self.act()
        return memoryview(b"payload")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("compress", [None, True])
def test_a_buffer_that_closes_the_connection(role: Role, compress: bool | None) -> None:
    sends: tuple[Callable[[Any, Any], object], ...] = (
        lambda endpoint, message: endpoint.send(message, compress=compress),
        lambda endpoint, message: endpoint.send(message, TEXT, compress=compress),
        lambda endpoint, message: endpoint.send_fragment(message, fin=True, compress=compress),
        lambda endpoint, message: endpoint.ping(message, now=0.0),
    )
    for send in sends:
        endpoint = Endpoint(role)
        if compress:
            endpoint.use([codec()])
        with pytest.raises(ConnectionClosed):
            send(endpoint, ActingBuffer(partial(endpoint.close, 1001, now=0.0)))
        assert [frame.opcode for frame in sent(endpoint)] == [CLOSE]


@pytest.mark.parametrize("role", ROLES)
def test_a_buffer_that_begins_or_ends_a_message_of_fragments(role: Role) -> None:
    endpoint = Endpoint(role)
    with pytest.raises(RuntimeError, match="fragments is under way"):
        endpoint.send(ActingBuffer(lambda: endpoint.send_fragment("a", fin=False)))
    with pytest.raises(RuntimeError, match="was ended"):
        endpoint.send_fragment(ActingBuffer(lambda: endpoint.send_fragment("b", fin=True)), fin=True)
    assert [(frame.opcode, frame.fin, frame.payload) for frame in sent(endpoint)] == [
        (TEXT, False, b"a"),
        (CONTINUATION, True, b"b"),
    ]
