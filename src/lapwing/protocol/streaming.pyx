"""Messages given out in pieces while they come, so that memory does not grow with a message.

A message is streamed when the application asks for that before it is complete. The part that has come by then is the
first piece; from then on every part of a payload goes into the queue of messages as a piece, a `str` of whole
characters or `bytes`. The queue is empty when it begins, so the pieces are in front of later messages, and the
limits of the queue apply to them. A `StreamedMessage` counts how many in front are pieces, and whether more will come.

Whether a message is wanted in pieces or whole must not depend on how quickly it came. So decoding stops at the
beginning of a message (it is held back) in two cases: a task waits for just that, and has to be woken first; or it is
too large to be put together, and the application has not said yet how it is wanted. `Reading` names the ways to read.

A compressed message is inflated in portions. When the reader lags, the rest of the input waits as it came. When a
message is given up before its end, the rest is skipped; with context takeover it is inflated all the same, and dropped,
because the next message may refer to it (RFC 7692 section 7.2.3.2).
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from .decoder cimport IN_DATA
from .frame cimport BINARY_FRAME, TEXT_FRAME
from .receiver cimport DISCARDING, HELD_BACK, STREAMED, WHOLE, Receiver, is_over
from .streamed cimport StreamedMessage

__all__ = []


cdef extern from *:
    """
    #include "queue.h"
    """
    PyObject *queue_front "lapwing_queue_front"(const void *queue)
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL


cdef StreamedMessage stream_next(Receiver receiver, int64_t limit):
    cdef uint64_t most = <uint64_t>1 << 62 if limit < 0 else limit
    if receiver.streamed is not None:
        raise RuntimeError("a message is being given out in pieces already: take them all, or end that stream first")
    if receiver.messages.count:
        receiver.await_stream(False)
        return stream_queued(receiver, most)
    if receiver.reading == WHOLE or receiver.reading == HELD_BACK:
        receiver.await_stream(False)
        return stream_current(receiver, most)
    receiver.await_stream(receiver.reading < DISCARDING)
    return None


cdef bint stop_awaiting(Receiver receiver) noexcept:
    receiver.await_stream(False)
    if receiver.reading != HELD_BACK:
        return False
    if receiver.is_too_big():
        return not receiver.holds_large
    receiver.reading = WHOLE
    return False


cdef StreamedMessage stream_queued(Receiver receiver, uint64_t limit):
    cdef StreamedMessage streamed = StreamedMessage.__new__(StreamedMessage)
    cdef object message = <object>queue_front(&receiver.messages)
    cdef Py_ssize_t size
    streamed.limit = limit
    if isinstance(message, str):
        streamed.opcode = TEXT_FRAME
        PyUnicode_AsUTF8AndSize(message, &size)
    else:
        streamed.opcode = BINARY_FRAME
        size = PyBytes_GET_SIZE(message)
    streamed.is_complete = <uint64_t>size <= limit
    if size and streamed.is_complete:
        streamed.pieces = 1
        receiver.streamed = streamed
    else:
        receiver.pop()
    return streamed


cdef StreamedMessage stream_current(Receiver receiver, uint64_t limit):
    cdef StreamedMessage streamed = StreamedMessage.__new__(StreamedMessage)
    streamed.opcode = receiver.decoder.message_opcode
    streamed.limit = limit
    receiver.streamed = streamed
    receiver.reading = STREAMED
    if not is_busy(receiver):
        receiver.adopt()
        if receiver.decoder.stage == IN_DATA and not is_over(receiver):
            receiver.check_streamed()
    return streamed


cdef bint is_busy(Receiver receiver) noexcept:
    """Whether another thread works on the message: its part becomes a piece when it is done."""
    return receiver.is_lent or (receiver.is_decoding and receiver.inflation() is not None)


cdef object take_piece(Receiver receiver, StreamedMessage streamed):
    streamed.pieces -= 1
    piece = receiver.pop()
    if streamed.is_complete and streamed.pieces == 0 and receiver.streamed is streamed:
        receiver.streamed = None
    return piece


cdef int skip_streamed(Receiver receiver, StreamedMessage streamed) except -1:
    if receiver.streamed is not streamed:
        return 0
    receiver.streamed = None
    if receiver.reading == STREAMED and not streamed.is_complete:
        if receiver.inflation() is None or not receiver.inflater.codec.keeps_incoming:
            receiver.skip_message()
    while streamed.pieces:
        streamed.pieces -= 1
        receiver.pop()
    return 0


cdef object copy_out(Receiver receiver, object view):
    cdef Py_buffer place
    cdef const char *payload
    cdef Py_ssize_t size
    PyObject_GetBuffer(view, &place, PyBUF_WRITABLE)
    # From the look at the queue to the taking no Python code runs, which might take the message.
    try:
        if receiver.messages.count == 0:
            return None
        message = <object>queue_front(&receiver.messages)
        if isinstance(message, str):
            payload = PyUnicode_AsUTF8AndSize(message, &size)
        else:
            payload = PyBytes_AS_STRING(message)
            size = PyBytes_GET_SIZE(message)
        if size > place.len:
            raise ValueError(
                f"expected a buffer of {size} bytes for this message, got one of {place.len}: the next call gets it")
        memcpy(place.buf, payload, size)
        receiver.pop()
    finally:
        PyBuffer_Release(&place)
    return size
