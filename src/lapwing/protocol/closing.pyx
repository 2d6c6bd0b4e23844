"""How a connection ends (RFC 6455 section 7): the content of the close frames, and the time of the peer for its part.

The moves are `state`'s, and the endpoint runs them. As there, no Python code may run between a move and its record, so
that no signal handler finds a connection that has half ended.
"""

cimport cython

from ..native.instant cimport NEVER
from .frame cimport MAX_CONTROL_PAYLOAD
from .violation cimport CLOSE_CODE, CLOSE_REASON_NOT_UTF8, CLOSE_TOO_SHORT, NO_FAULT, Fault

from .close import SENDABLE, Closed, may_be_sent
from .close import read_close as read_valid_close
from .errors import ConnectionClosed, ProtocolError

__all__ = ["Closing"]

cdef frozenset SENDABLE_CODES = SENDABLE


@cython.no_gc     # it refers to values alone
@cython.freelist(32)
cdef class Closing:
    """The end of a connection: its close frames, and the deadline of the wait for it."""

    def __cinit__(self):
        self.deadline = NEVER


cdef object error_of(Closing closing):
    if closing.closed is None:
        return ConnectionClosed(False, 1006, "this end has begun to close the connection")
    error = ConnectionClosed(*closing.closed)
    if closing.violation is not None:
        error.__cause__ = ProtocolError(closing.violation)
    return error


cdef object frame_of(bytes payload):
    return read_valid_close(payload)


cdef object new_closed(bint was_clean, int code, str reason):
    return tuple.__new__(Closed, (was_clean, code, reason))


cdef bytes close_payload(int code, str reason):
    return code.to_bytes(2, "big") + reason.encode()


cdef bytes check_close(object code, str reason):
    if not isinstance(code, int):
        raise TypeError(f"expected a close code, a number such as 1000, got {code!r}")
    if not may_be_sent(code):
        raise ValueError(
            f"expected a close code of 1000 to 1003, 1007 to 1014 or 3000 to 4999 (RFC 6455 section 7.4), got {code}")
    if len(reason.encode()) > MAX_CONTROL_PAYLOAD - 2:
        raise ValueError(f"expected a close reason of at most 123 bytes in UTF-8, got {len(reason.encode())}")
    return close_payload(code, reason)


cdef object read_close(bytes payload, Fault *fault):
    cdef int code = 1005    # RFC 6455 section 7.1.5: of a close frame without a code
    cdef str reason = ""
    fault[0] = NO_FAULT
    if len(payload) == 1:
        fault[0] = CLOSE_TOO_SHORT
        return None
    if payload:
        code = (<int><unsigned char>payload[0] << 8) | <unsigned char>payload[1]
        if not (3000 <= code <= 4999 or code in SENDABLE_CODES):
            fault[0] = CLOSE_CODE
            return None
        try:
            reason = payload[2:].decode()
        except UnicodeDecodeError:
            fault[0] = CLOSE_REASON_NOT_UTF8
            return None
    return new_closed(True, code, reason)
