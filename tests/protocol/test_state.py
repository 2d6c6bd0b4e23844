"""The table of states (RFC 6455 section 7): every event in every state, through the endpoint that runs it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lapwing.protocol import Ending, Endpoint, Role, State
from tests.peers.wire import close_payload
from tests.protocol.machine import *

OPEN, CLOSING, CLOSED = State.OPEN, State.CLOSING, State.CLOSED
STAY, AWAIT_EOF, SHUT_DOWN, DROP = Ending.STAY, Ending.AWAIT_EOF, Ending.SHUT_DOWN, Ending.DROP

#: What can happen, each made to happen from outside.
EVENTS: dict[str, Callable[[Endpoint], None]] = {
    "close frame sent": lambda endpoint: endpoint.close(now=0.0),
    "close frame received": lambda endpoint: endpoint.receive_data(
        from_peer(endpoint.role, CLOSE, close_payload(1000)), now=0.0
    ),
    "violation": lambda endpoint: endpoint.receive_data(from_peer(endpoint.role, 3), now=0.0),
    "failed": lambda endpoint: endpoint.fail(1011, now=0.0),
    "refused": lambda endpoint: endpoint.refuse("refused", now=0.0),
    "end of stream": lambda endpoint: endpoint.receive_eof(),
    "silence": lambda endpoint: keep_silent(endpoint),
    "time expired": lambda endpoint: endpoint.advance(1e9),
}


def keep_silent(endpoint: Endpoint) -> None:
    endpoint.keep_alive(1.0, 1.0, now=0.0)
    endpoint.advance(1.0)
    endpoint.advance(2.0)


#: How each state is reached: its name, the events before, and the ending that this leaves (a client's, a server's).
STATES: dict[str, tuple[State, list[str], tuple[Ending, Ending]]] = {
    "open": (OPEN, [], (STAY, STAY)),
    "closing": (CLOSING, ["close frame sent"], (STAY, STAY)),
    "closed by the peer": (CLOSED, ["close frame received"], (AWAIT_EOF, Ending.CLOSE)),
    "closed by this end": (CLOSED, ["close frame sent", "close frame received"], (AWAIT_EOF, Ending.CLOSE)),
    "failed": (CLOSED, ["failed"], (SHUT_DOWN, SHUT_DOWN)),
    "broken while closing": (CLOSED, ["close frame sent", "violation"], (SHUT_DOWN, SHUT_DOWN)),
    "lost": (CLOSED, ["end of stream"], (DROP, DROP)),
    "given up": (CLOSED, ["close frame sent", "time expired"], (DROP, DROP)),
}

#: The moves out of open and closing: the state, and the ending of a client and of a server.
MOVES: dict[tuple[State, str], tuple[State, tuple[Ending, Ending]]] = {
    (OPEN, "close frame sent"): (CLOSING, (STAY, STAY)),
    (OPEN, "close frame received"): (CLOSED, (AWAIT_EOF, Ending.CLOSE)),
    (OPEN, "violation"): (CLOSED, (SHUT_DOWN, SHUT_DOWN)),
    (OPEN, "failed"): (CLOSED, (SHUT_DOWN, SHUT_DOWN)),
    (OPEN, "refused"): (CLOSED, (SHUT_DOWN, SHUT_DOWN)),
    (OPEN, "end of stream"): (CLOSED, (DROP, DROP)),
    (OPEN, "silence"): (CLOSED, (Ending.CLOSE, Ending.CLOSE)),
    (OPEN, "time expired"): (OPEN, (STAY, STAY)),
    (CLOSING, "close frame sent"): (CLOSING, (STAY, STAY)),
    (CLOSING, "close frame received"): (CLOSED, (AWAIT_EOF, Ending.CLOSE)),
    (CLOSING, "violation"): (CLOSED, (SHUT_DOWN, SHUT_DOWN)),
    (CLOSING, "failed"): (CLOSED, (SHUT_DOWN, SHUT_DOWN)),
    (CLOSING, "refused"): (CLOSED, (SHUT_DOWN, SHUT_DOWN)),
    (CLOSING, "end of stream"): (CLOSED, (DROP, DROP)),
    (CLOSING, "silence"): (CLOSING, (STAY, STAY)),
    (CLOSING, "time expired"): (CLOSED, (DROP, DROP)),
}


def reach(role: Role, name: str) -> Endpoint:
    endpoint = Endpoint(role)
    for event in STATES[name][1]:
        EVENTS[event](endpoint)
    return endpoint


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", STATES)
def test_states_are_reached(role: Role, name: str) -> None:
    endpoint = reach(role, name)
    state, _, endings = STATES[name]
    assert endpoint.role is role
    assert endpoint.state is state
    assert endpoint.ending is endings[role is SERVER]
    assert (endpoint.closed is None) is (state is not CLOSED)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("event", EVENTS)
def test_every_event_in_every_state(role: Role, name: str, event: str) -> None:
    endpoint = reach(role, name)
    state, _, endings = STATES[name]
    closed, output = endpoint.closed, endpoint.data_to_send()
    assert output or state is OPEN or name == "lost"
    EVENTS[event](endpoint)
    if state is CLOSED:
        # Nothing changes how a connection ended; only its transport may be given up earlier.
        assert (endpoint.state, endpoint.closed, endpoint.data_to_send()) == (CLOSED, closed, b"")
        is_over = event in ("end of stream", "time expired") and (event != "time expired" or name != "lost")
        assert endpoint.ending is (DROP if is_over else endings[role is SERVER])
        return
    expected, endings = MOVES[state, event]
    assert endpoint.state is expected
    assert endpoint.ending is endings[role is SERVER]
    assert (endpoint.closed is None) is (expected is not CLOSED)


def test_the_table_is_complete() -> None:
    assert set(MOVES) == {(state, event) for state in (OPEN, CLOSING) for event in EVENTS}
    assert {state for state, _, _ in STATES.values()} == set(State) - {State.CONNECTING}
    assert {ending for _, _, endings in STATES.values() for ending in endings} == set(Ending)


def test_close_of_a_closed_connection_sends_nothing_but_checks() -> None:
    endpoint = reach(CLIENT, "lost")
    with pytest.raises(ValueError, match="close code"):
        endpoint.close(1005, now=0.0)
    endpoint.close(1000, now=0.0)
    assert endpoint.data_to_send() == b""
