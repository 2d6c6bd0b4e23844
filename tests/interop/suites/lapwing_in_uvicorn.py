"""A plugin for pytest: lapwing's class stands in the place of uvicorn's own while uvicorn's tests run."""

from __future__ import annotations

import pytest
from uvicorn.protocols.websockets import websockets_sansio_impl

from lapwing.uvicorn import Protocol

websockets_sansio_impl.WebSocketsSansIOProtocol = Protocol  # type: ignore[assignment,misc]

#: Tests that fail with lapwing's class, by a part of their name, each with the reason.
DEVIATIONS = {
    "test_server_keepalive_ping_pong": "it reads ping_sent_at, a private attribute of uvicorn's classes",
    "max=defaults sent=defaults+1": (
        "lapwing sends the close frame with 1009 and reads on, where uvicorn resets; the client, websockets 17.4, then "
        "fails in its own clean-up with AttributeError"
    ),
    "test_server_keepalive_ping_timeout": "the close frame has 1011 as well, but other words",
    "test_close_resumes_reads_paused_on_an_unconsumed_message": (
        "lapwing pauses reading when max_buffered bytes wait, and not at the first message"
    ),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect the deviations to fail, and everything else to pass."""
    for item in items:
        for part, reason in DEVIATIONS.items():
            if part in item.name:
                item.add_marker(pytest.mark.xfail(reason=reason, strict=False))
