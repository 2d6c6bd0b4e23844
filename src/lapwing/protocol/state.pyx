"""Where a connection stands, and every move it can make (RFC 6455 section 7): one table, which the endpoint runs."""

from enum import Enum

__all__ = ["Ending", "Role", "State"]


class Role(Enum):
    """Which end of the connection this is: RFC 6455 sets other rules for each."""

    CLIENT = "client"
    SERVER = "server"


class State(Enum):
    """Where the connection stands (RFC 6455 sections 4 and 7)."""

    CONNECTING = -1
    """The opening handshake is not over: `Connection` begins here, an `Endpoint` after it."""
    OPEN = 0
    """Messages go both ways."""
    CLOSING = 1
    """This end sent its close frame and waits for the peer's; messages that still come are discarded."""
    CLOSED = 2
    """No more messages in either direction: `Endpoint.closed` says how it ended."""


class Ending(Enum):
    """The next act of the owner on the transport."""

    STAY = 0
    """Nothing: it is in use."""
    CLOSE = 1
    """Send the output, then close it (a server after the closing handshake, RFC 6455 section 7.1.1; either end when the
    peer gives no sign of life)."""
    AWAIT_EOF = 2
    """Send the output, then wait until the peer closes it (a client after the closing handshake, section 7.1.1)."""
    SHUT_DOWN = 3
    """Send the output, shut down the sending direction and discard input until the peer closes (after `fail`): closing
    with input unread would make the network drop the close frame."""
    DROP = 4
    """Close it now."""


# Every event in every state: where the connection stands afterwards, and what becomes of its transport.
cdef Move[3][6] MOVES
MOVES[<int>OPEN][<int>CLOSE_SENT] = Move(CLOSING, STAY, STAY)
MOVES[<int>OPEN][<int>CLOSE_RECEIVED] = Move(CLOSED, AWAIT_EOF, CLOSE)
MOVES[<int>OPEN][<int>FAILED] = Move(CLOSED, SHUT_DOWN, SHUT_DOWN)
MOVES[<int>OPEN][<int>EOF_RECEIVED] = Move(CLOSED, DROP, DROP)
MOVES[<int>OPEN][<int>SILENCE] = Move(CLOSED, CLOSE, CLOSE)
MOVES[<int>OPEN][<int>TIME_EXPIRED] = Move(OPEN, STAY, STAY)
MOVES[<int>CLOSING][<int>CLOSE_SENT] = Move(CLOSING, STAY, STAY)
MOVES[<int>CLOSING][<int>CLOSE_RECEIVED] = Move(CLOSED, AWAIT_EOF, CLOSE)
MOVES[<int>CLOSING][<int>FAILED] = Move(CLOSED, SHUT_DOWN, SHUT_DOWN)
MOVES[<int>CLOSING][<int>EOF_RECEIVED] = Move(CLOSED, DROP, DROP)
MOVES[<int>CLOSING][<int>SILENCE] = Move(CLOSING, STAY, STAY)
MOVES[<int>CLOSING][<int>TIME_EXPIRED] = Move(CLOSED, DROP, DROP)
MOVES[<int>CLOSED][<int>CLOSE_SENT] = Move(CLOSED, STAY, STAY)
MOVES[<int>CLOSED][<int>CLOSE_RECEIVED] = Move(CLOSED, STAY, STAY)
MOVES[<int>CLOSED][<int>FAILED] = Move(CLOSED, STAY, STAY)
MOVES[<int>CLOSED][<int>EOF_RECEIVED] = Move(CLOSED, DROP, DROP)
MOVES[<int>CLOSED][<int>SILENCE] = Move(CLOSED, STAY, STAY)
MOVES[<int>CLOSED][<int>TIME_EXPIRED] = Move(CLOSED, DROP, DROP)


cdef Move move_on(EndpointState phase, Event event) noexcept:
    """Look up what `event` makes of a connection in `phase`."""
    return MOVES[<int>phase][<int>event]
