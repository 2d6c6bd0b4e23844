"""Messages given out in pieces while they come, so that memory does not grow with a message.

A message is streamed when somebody asks for that before it is complete. What was put together of it by then is the
first piece; from then on every part of a payload goes into the queue of messages as a piece, a `str` of whole
characters or `bytes`. The queue is empty when it begins, so the pieces are in front of what comes later, and whatever
bounds the queue bounds them. An `Inflow` counts how many in front are pieces, and whether more will come.

Whether a message is wanted in pieces or whole must not depend on how quickly it came. So decoding stops at the
beginning of a message (it is held back) in two cases: somebody waits for just that, and has to be woken first; or it is
too large to be put together, and nobody has said yet how it is wanted. `Route` names what becomes of a message.

A compressed message is inflated in portions. When the reader lags, the rest of the input waits as it came. Whoever
gives up a message before its end has the rest skipped; with context takeover it is inflated all the same, and dropped,
because the next message may refer to it (RFC 7692 section 7.2.3.2).
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from .frame cimport BINARY_FRAME, TEXT_FRAME, mask_payload
from .inbound cimport HELD_BACK, RULE_BROKEN, SKIPPED, STREAMED, WHOLE, is_over
from .placing cimport Placing
from .state cimport CLOSED, OPEN
from .utf8 cimport UTF8_ACCEPT, UTF8_REJECT, utf8_check

from .violation import Violation

__all__ = ["Inflow", "Streaming"]

# By name: to ask an Enum for a member runs Python code.
cdef dict RULES = dict(Violation.__members__)


cdef extern from *:
    """
    #include "queue.h"
    """
    PyObject *queue_front "lapwing_queue_front"(const void *queue)
    int resize_bytes "_PyBytes_Resize"(PyObject **bytes, Py_ssize_t size)
    void drop "Py_XDECREF"(PyObject *object)
    str PyUnicode_DecodeUTF8Stateful(const char *data, Py_ssize_t size, const char *errors, Py_ssize_t *used)
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL


cdef class Inflow:
    """A message that is given out in pieces.

    Attributes:
        opcode: of the message, 1 for TEXT or 2 for BINARY.
        pieces: how many are at hand.
        is_complete: whether these are the last ones.
    """

    cdef str text(self, const unsigned char *data, size_t size):
        """Decode as many whole characters as there are; the bytes were checked."""
        cdef Py_ssize_t used
        cdef str text
        cdef bytes joined
        if self.split_size:
            joined = PyBytes_FromStringAndSize(NULL, self.split_size + size)
            memcpy(PyBytes_AS_STRING(joined), self.split, self.split_size)
            memcpy(PyBytes_AS_STRING(joined) + self.split_size, data, size)
            data = <const unsigned char *>PyBytes_AS_STRING(joined)
            size += self.split_size
        used = size     # which early releases of Python 3.11 do not say when all of it is ASCII
        text = PyUnicode_DecodeUTF8Stateful(<const char *>data, size, NULL, &used)
        self.split_size = <unsigned char>(size - used)
        memcpy(self.split, data + used, self.split_size)
        return text


cdef class Streaming(Placing):
    """An endpoint's way to give out messages in pieces; see `Endpoint`, which is what to use."""

    @property
    def is_streaming(self):
        """Whether a message is being given out in pieces: from `begin_stream` until its last piece was taken."""
        return self.inflow is not None

    def begin_stream(self, limit=None):
        """Begin to give out the next message in pieces, as they come, instead of whole.

        `max_message_size` does not apply to such a message: memory is bounded by `max_buffered`, whatever its length.
        A message that is complete already is given out as one piece.

        Args:
            limit: bytes that the message may have; None for any number. A larger one fails the connection with 1009.

        Returns:
            The opcode of the message, 1 for TEXT or 2 for BINARY. None when it has not begun: then it is held back when
            it does, until you call this again, or `end_stream` when you no longer want that.

        Raises:
            RuntimeError: a message is being given out in pieces already.
            ValueError: the limit is less than 1 byte.
        """
        if limit is not None and limit < 1:
            raise ValueError(f"expected a limit from 1 byte up, or None for no limit, got {limit!r}")
        cdef Inflow inflow = self.begin_inflow(NO_LIMIT if limit is None else limit)
        return None if inflow is None else inflow.opcode

    def next_piece(self):
        """Return the next piece of the message that is being given out, or None when none is at hand.

        Pieces are `str` for TEXT, cut between characters, or `bytes` for BINARY, never empty, and cut as the message
        happened to arrive. `is_streaming` tells whether there will be more; when the connection ends within the message
        it turns false, and `closed` tells why.
        """
        cdef Inflow inflow = self.inflow
        if inflow is None:
            return None
        if inflow.pieces:
            return self.pop_piece(inflow)
        if self.route == RULE_BROKEN:
            self.refuse_held(self.now)
        if self.phase == CLOSED:
            self.inflow = None
        return None

    def end_stream(self):
        """Skip what is left of the message that is being given out, and go on with the next one; or want no longer that
        the next message is held back."""
        if self.inflow is not None:
            self.drop_inflow(self.inflow)
        self.forget_stream()

    cdef Inflow begin_inflow(self, int64_t limit):
        cdef Inflow inflow
        cdef uint64_t most = <uint64_t>1 << 62 if limit < 0 else limit
        if self.inflow is not None:
            raise RuntimeError(
                "a message is being given out in pieces already: take them all, or end that stream first")
        if self.messages.count:
            self.wants_stream = False
            inflow = self.take_queued(most)
        elif self.phase == OPEN and self.route == RULE_BROKEN:
            self.refuse_held(self.now)
            inflow = None
        elif self.phase == OPEN and self.message_opcode and self.route != SKIPPED and self.route != STREAMED:
            self.wants_stream = False
            inflow = self.convert(most)
        else:
            self.wants_stream = self.phase == OPEN
            inflow = None
        return inflow

    cdef Inflow take_queued(self, uint64_t limit):
        """Make the message in front of the queue the only piece of itself."""
        cdef Inflow inflow = Inflow.__new__(Inflow)
        cdef object message = <object>queue_front(&self.messages)
        cdef Py_ssize_t size
        inflow.limit = limit
        if isinstance(message, str):
            inflow.opcode = TEXT_FRAME
            PyUnicode_AsUTF8AndSize(message, &size)
        else:
            inflow.opcode = BINARY_FRAME
            size = PyBytes_GET_SIZE(message)
        inflow.is_complete = <uint64_t>size <= limit
        if size and inflow.is_complete:
            inflow.pieces = 1
            self.inflow = inflow
            return inflow
        self.pop_message()
        if not inflow.is_complete:
            self.fail_now(RULES["MESSAGE_TOO_BIG"])
        return inflow

    cdef Inflow convert(self, uint64_t limit):
        """Stream the message that is under way."""
        cdef Inflow inflow = Inflow.__new__(Inflow)
        inflow.opcode = self.message_opcode
        inflow.limit = limit
        inflow.total = 0
        self.inflow = inflow
        self.route = STREAMED
        # What another thread is working on becomes a piece when it is done with it.
        if not self.is_lent and not (self.is_decoding and self.inflation is not None):
            self.adopt()
            if not is_over(self) and self.in_frame and self.frame.opcode & 0x8 == 0:
                self.accept_streamed()
            self.decode_held()
        return inflow

    cdef int forget_stream(self) except -1:
        self.wants_stream = False
        if self.route != HELD_BACK or self.phase != OPEN:
            return 0
        if self.is_too_big():
            return 0 if self.holds_large else self.refuse_held(self.now)
        self.route = WHOLE
        return self.decode_held()

    cdef object pop_piece(self, Inflow inflow):
        inflow.pieces -= 1
        piece = self.pop_message()
        if (
            self.inflation is not None and self.inflation.pending is not None
            and self.message_bytes * 2 < self.max_held_input
        ):
            self.decode_held()
        if inflow.is_complete and inflow.pieces == 0 and self.inflow is inflow:
            self.inflow = None
        return piece

    cdef int drop_inflow(self, Inflow inflow) except -1:
        cdef bint is_under_way = not inflow.is_complete and self.phase == OPEN and self.route != RULE_BROKEN
        if self.inflow is not inflow:
            return 0
        self.inflow = None
        if is_under_way:
            if self.inflation is None or not self.codec.keeps_incoming:
                self.drop_assembly()
                self.route = SKIPPED
        while inflow.pieces:
            inflow.pieces -= 1
            self.pop_message()
        return self.decode_held()

    cdef object take_message_into(self, object view):
        cdef Py_buffer place
        cdef const char *payload
        cdef Py_ssize_t size
        PyObject_GetBuffer(view, &place, PyBUF_WRITABLE)
        # From the look at the queue to the taking no Python code runs, which might take the message.
        try:
            if self.messages.count == 0:
                return None
            message = <object>queue_front(&self.messages)
            if isinstance(message, str):
                payload = PyUnicode_AsUTF8AndSize(message, &size)
            else:
                payload = PyBytes_AS_STRING(message)
                size = PyBytes_GET_SIZE(message)
            if size > place.len:
                raise ValueError(
                    f"expected a buffer of {size} bytes for this message, got one of {place.len}: the next call gets "
                    "it")
            memcpy(place.buf, payload, size)
            self.pop_message()
        finally:
            PyBuffer_Release(&place)
        return size

    # --- what `Inbound` asks for -----------------------------------------------------------------------------------

    cdef int accept_streamed(self) except -1:
        """Check what a frame declares against the limit; of a compressed message, what it is inflated to counts."""
        cdef Inflow inflow = self.inflow
        if inflow is not None and self.inflation is None and self.remaining > inflow.limit - inflow.total:
            return self.fail_by(RULES["MESSAGE_TOO_BIG"])
        return 0

    cdef int take_piece(self, unsigned char *data, size_t size) except -1:
        cdef bytes piece = PyBytes_FromStringAndSize(NULL, size)   # without bytes yet: then it is never a shared one
        cdef unsigned char *place = <unsigned char *>PyBytes_AS_STRING(piece)
        if self.frame.masked:
            mask_payload(place, data, size, self.frame.key, self.frame.length - self.remaining)
        else:
            memcpy(place, data, size)
        self.remaining -= size
        if self.message_opcode == TEXT_FRAME:
            self.utf8_state = utf8_check(self.utf8_state, place, size)
            if self.utf8_state == UTF8_REJECT:
                return self.fail_by(RULES["TEXT_NOT_UTF8"])
        return self.deliver_piece(piece)

    cdef int adopt(self) except -1:
        cdef PyObject *assembly
        cdef size_t size = self.assembled
        if self.inflation is not None:
            return self.deliver_piece(self.inflation.take_part()) if self.inflation.size else 0
        if self.assembly is NULL:
            return 0
        assembly = self.assembly
        self.assembly = NULL
        self.assembled = 0
        if resize_bytes(&assembly, size) < 0:
            raise MemoryError
        piece = <bytes>assembly
        drop(assembly)
        return self.deliver_piece(piece)

    cdef int deliver_piece(self, bytes piece) except -1:
        cdef Inflow inflow = self.inflow
        cdef size_t size = PyBytes_GET_SIZE(piece)
        cdef object part = piece
        if inflow is None or size == 0:     # given up, but inflated for the window's sake
            return 0
        inflow.total += size
        if inflow.total > inflow.limit:
            return self.fail_by(RULES["MESSAGE_TOO_BIG"])
        if inflow.opcode == TEXT_FRAME:
            part = inflow.text(<const unsigned char *>PyBytes_AS_STRING(piece), size)
            if not part:
                return 0
        self.deliver(part, size)
        inflow.pieces += 1
        return 0

    cdef int finish_streamed(self) except -1:
        cdef Inflow inflow = self.inflow
        self.set_inflation(None)
        self.received_messages += 1
        if inflow is None:
            return 0
        if inflow.opcode == TEXT_FRAME and self.utf8_state != UTF8_ACCEPT:
            return self.fail_by(RULES["TEXT_NOT_UTF8"])
        inflow.is_complete = True
        self.has_news = True
        if inflow.pieces == 0:
            self.inflow = None
        return 0
