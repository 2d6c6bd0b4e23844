"""From the peer's bytes to messages (RFC 6455 sections 5 and 6.2): frames read, unmasked, put together and checked.

How input travels: a header that comes in pieces waits in `header_bytes`. The payload of a data frame that is all there
becomes its `str` or `bytes` at once; any other goes, unmasked and checked, to the end of `assembly`, the `bytes` object
that the application will get. When the application lags, whole reads wait in `undecoded`, and the owner stops reading.
So every byte is held once, whichever way the peer cuts a message up. A compressed message is inflated as it comes and
takes the place of `assembly` in its `Inflation`. A message that is streamed is not put together: see `streaming`.

While a message is inflated other threads may run, and wherever an object is made that Python's collector tracks,
finalizers. What they may find then: `is_decoding` is set, so that none decodes what comes later, which waits in
`undecoded`; one that ends the connection drops `inflation`, and with it the message. A thread that is about to wait for
input looks at both first: what it waits for may be in there.

Control frames are only collected here: what they mean, and how a connection fails, is for `Endpoint`. Reading a large
message right into its place is `placing`'s.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_Clear, PyErr_ExceptionMatches
from cpython.list cimport PyList_New
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from libc.string cimport memcpy

from ..native.buffer cimport buffer_append, buffer_consume, buffer_free, buffer_size
from .compression cimport INFLATED_TOO_MUCH, NOT_DEFLATED, Inflated, Inflation
from .frame cimport (
    BAD_CONTROL_FRAGMENT, BAD_CONTROL_LENGTH, BAD_LENGTH_FORM, BAD_LENGTH_SIGN, BAD_MASK_MISSING, BAD_MASK_PRESENT,
    BAD_OPCODE, BAD_RESERVED_BIT, BINARY_FRAME, CONTINUATION_FRAME, HTTP_RESPONSE, MAX_CONTROL_PAYLOAD, MAX_HEADER_SIZE,
    NO_HTTP, PERHAPS_HTTP, TEXT_FRAME, HttpMessage, find_http, mask_payload, read_header, unmask_text,
)
from .limits cimport (
    DEFLATE_OVERHEAD, EAGER_MEMORY, LARGE_MESSAGE, MESSAGE_OVERHEAD, SLICE, STREAMED_PIECE,
)
from .noting cimport FrameNotes
from .state cimport CLOSED, CLOSING, OPEN
from .utf8 cimport UTF8_ACCEPT, UTF8_REJECT, is_ascii, utf8_check

from .violation import Violation

__all__ = ["Inbound"]


cdef extern from *:
    """
    #include "queue.h"
    """
    int queue_push "lapwing_queue_push"(Queue *queue, PyObject *object)
    PyObject *queue_pop "lapwing_queue_pop"(Queue *queue)
    void queue_clear "lapwing_queue_clear"(Queue *queue)
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *bytes, Py_ssize_t size)
    PyObject *new_text "PyUnicode_New"(Py_ssize_t size, unsigned int largest)
    PyObject *decode_utf8 "PyUnicode_DecodeUTF8"(const char *bytes, Py_ssize_t size, const char *errors)
    unsigned char *text_data "PyUnicode_1BYTE_DATA"(PyObject *text)
    int resize_bytes "_PyBytes_Resize"(PyObject **bytes, Py_ssize_t size)
    void incref "Py_INCREF"(PyObject *object)
    void give_to_list "PyList_SET_ITEM"(list items, Py_ssize_t index, PyObject *object)
    void drop "Py_XDECREF"(PyObject *object)
    char *bytes_data "PyBytes_AS_STRING"(PyObject *bytes)
    Py_ssize_t bytes_size "PyBytes_GET_SIZE"(PyObject *bytes)
    bint is_bytes "PyBytes_CheckExact"(PyObject *object)
    Py_ssize_t text_length "PyUnicode_GET_LENGTH"(PyObject *text)
    int text_kind "PyUnicode_KIND"(PyObject *text)


cdef extern from *:
    """
    #include <stdlib.h>

    /* When a large block at the end of the heap is freed, glibc gives it back to the system, and takes it anew for the
     * next message: a page fault for every 4 KiB, which for 1 MiB costs more than all else here. It stops doing so
     * for sizes that it has seen freed. So it is shown one, once; a process keeps up to twice as much free for that. */
    static void lapwing_keep_freed_memory(void)
    {
        enum { SHOWN = 16 * 1024 * 1024 };
        static int is_done;
        if (!__atomic_exchange_n(&is_done, 1, __ATOMIC_RELAXED)) {
            void *volatile block = malloc(SHOWN);
            free(block);
        }
    }
    """
    void keep_freed_memory "lapwing_keep_freed_memory"()


# By name: to ask an Enum for a member runs Python code.
cdef dict RULES = dict(Violation.__members__)

cdef dict HEADER_VIOLATIONS = {
    <int>BAD_RESERVED_BIT: Violation.RESERVED_BIT,
    <int>BAD_OPCODE: Violation.RESERVED_OPCODE,
    <int>BAD_LENGTH_FORM: Violation.LENGTH_NOT_MINIMAL,
    <int>BAD_LENGTH_SIGN: Violation.LENGTH_SIGN_BIT,
    <int>BAD_MASK_MISSING: Violation.UNMASKED_FRAME,
    <int>BAD_MASK_PRESENT: Violation.MASKED_FRAME,
    <int>BAD_CONTROL_FRAGMENT: Violation.FRAGMENTED_CONTROL,
    <int>BAD_CONTROL_LENGTH: Violation.CONTROL_TOO_LONG,
}


cdef class Inbound(FrameNotes):
    """The receiving half of an endpoint; see `Endpoint`, which is what to use."""

    def __dealloc__(self):
        queue_clear(&self.messages)
        buffer_free(&self.undecoded)
        drop(self.assembly)
        drop(self.lent)
        PyMem_Free(self.control)

    cdef int take_control(self) except -1:
        raise NotImplementedError

    cdef int fail_by(self, object violation) except -1:
        raise NotImplementedError

    cdef int fail_now(self, object violation) except -1:
        raise NotImplementedError

    cdef int refuse_held(self, double now) except -1:
        raise NotImplementedError

    cdef int accept_streamed(self) except -1:
        raise NotImplementedError

    cdef int take_piece(self, unsigned char *data, size_t size) except -1:
        raise NotImplementedError

    cdef int adopt(self) except -1:
        raise NotImplementedError

    cdef int finish_streamed(self) except -1:
        raise NotImplementedError

    @property
    def wants_input(self):
        """Whether to read from the peer: false while the application lags, and once all is said."""
        return self.phase != CLOSED and not self.is_paused()

    @property
    def pending_messages(self):
        """How many messages wait for `next_message`."""
        return self.messages.count

    def next_message(self):
        """Return the next message, `str` for TEXT and `bytes` for BINARY, or None when none is at hand.

        A message that was held back, because it is larger than `max_message_size` says, fails the connection now. So
        does what the peer sent against the rules after the messages that you took: with None you have answered these.

        Raises:
            RuntimeError: a message is being given out in pieces: take them all, or call `end_stream`.
        """
        if self.inflow is not None:
            raise RuntimeError("a message is being given out in pieces: take them all, or call end_stream() first")
        if self.messages.count:
            return self.pop_message()
        if self.route >= HELD_BACK:
            self.refuse_held(self.now)
        return None

    cdef object pop_message(self):
        """Take the oldest message; there must be one. Goes on with what waits undecoded once half of it is worked
        off."""
        cdef PyObject *owned = queue_pop(&self.messages)
        message = <object>owned
        drop(owned)
        self.message_bytes -= message_cost(owned)
        if self.undecoded.end and self.message_bytes * 2 < self.max_held_input:
            self.decode_held()
        return message

    cdef list pop_messages(self, Py_ssize_t limit):
        """Take the messages at hand, the oldest first: at most `limit`, or all when that is negative."""
        cdef Py_ssize_t count = self.messages.count
        cdef Py_ssize_t index
        cdef PyObject *owned
        cdef list messages = None
        # Making a list may run Python code that takes messages.
        while messages is None or <Py_ssize_t>self.messages.count < count:
            count = self.messages.count
            if 0 <= limit < count:
                count = limit
            messages = PyList_New(count)
        for index in range(count):
            owned = queue_pop(&self.messages)
            self.message_bytes -= message_cost(owned)
            give_to_list(messages, index, owned)
        if self.undecoded.end and self.message_bytes * 2 < self.max_held_input:
            self.decode_held()
        return messages

    cdef int decode_held(self) except -1:
        """Decode input that had to wait; for a pong in it, the time of the last read stands in for its own."""
        cdef Buffer held
        cdef unsigned char *place
        cdef size_t used
        cdef bint goes_on = not self.is_decoding and self.route != RULE_BROKEN
        while goes_on:
            held = self.undecoded
            self.undecoded = Buffer(NULL, 0, 0, 0)
            self.is_decoding = True
            try:
                # C knows no empty range of bytes without a place.
                place = &self.header_bytes[0] if held.data is NULL else held.data + held.start
                used = self.decode(place, buffer_size(&held))
            except BaseException:
                buffer_free(&held)
                raise
            finally:
                self.is_decoding = False
            buffer_consume(&held, used)
            if is_over(self):
                buffer_free(&held)
                buffer_free(&self.undecoded)
            goes_on = held.end == 0 and self.undecoded.end != 0
            if not goes_on:
                self.join_undecoded(&held)
        return 0

    cdef int join_undecoded(self, Buffer *held) except -1:
        """Put back what is left of the input that was being decoded, before what came meanwhile."""
        cdef Buffer later = self.undecoded
        cdef int outcome = 0
        if later.end:
            outcome = buffer_append(held, later.data + later.start, buffer_size(&later))
            buffer_free(&later)
        self.undecoded = held[0]
        if outcome < 0:
            raise MemoryError
        return 0

    cdef bint is_paused(self) noexcept:
        return is_lagging(self)

    cdef int set_inflation(self, Inflation inflation) noexcept:
        """Begin or end inflating a message. Other threads may be asking meanwhile how many bytes it holds."""
        cdef Inflation ended = self.inflation   # goes when nobody can find it any more
        with cython.critical_section(self):
            if ended is not None and ended.kept is not None:
                self.keep_window(ended.kept)
            self.inflation = inflation
        return 0

    cdef int keep_window(self, bytes window) noexcept:
        """Keep a window, or with None let go of it. It grows at the cost of what may wait for the application."""
        cdef bytes before = self.window    # goes when no thread can find it any more
        self.window = window
        if window is not None:
            self.max_held_input -= min(
                <size_t>(len(window) - (0 if before is None else len(before))), self.max_held_input - 1)
        return 0

    cdef int drop_assembly(self) except -1:
        """Let go of the message that is being put together; what is left of it will be skipped."""
        if self.in_frame and self.frame.opcode & 0x8 == 0 and self.route != RULE_BROKEN:
            self.route = SKIPPED
        if self.is_lent and self.lent is NULL:
            self.lent = self.assembly   # another thread may be reading into it
        else:
            drop(self.assembly)
        self.assembly = NULL
        self.assembled = 0
        self.set_inflation(None)
        return 0

    cdef int end_loan(self) except -1:
        """Learn that nobody reads into the assembly any more."""
        self.is_lent = False
        drop(self.lent)
        self.lent = NULL
        return 0

    cdef int drop_input(self) except -1:
        """Let go of everything that will never become a message."""
        self.drop_assembly()
        with cython.critical_section(self):
            self.keep_window(None)
        buffer_free(&self.undecoded)
        return 0

    cdef int log_end_of_frame(self) except -1:
        """Note the frame that came in pieces and is complete now; of what it had before inflating nothing is kept."""
        cdef const unsigned char *payload = NULL
        cdef unsigned char first_byte = (0x80 if self.frame.fin else 0) | self.frame.reserved | self.frame.opcode
        if self.frame.opcode & 0x8:
            payload = self.control
        elif self.assembly is not NULL and self.route == WHOLE and self.assembled >= self.frame.length:
            payload = <unsigned char *>bytes_data(self.assembly) + self.assembled - self.frame.length
        self.log_frame(False, first_byte, self.frame.length, payload, NULL)
        if (
            first_byte & 0x88 == 0x80 and self.frame.reserved and self.route == WHOLE
            and self.inflation is not None and self.inflation.is_complete
        ):
            self.note_original(self.inflation.inflated(), self.inflation.size)
        return 0

    # --- decoding --------------------------------------------------------------------------------------------------

    cdef int feed(self, unsigned char *data, size_t size, double now) except -1:
        cdef size_t used = 0
        if self.is_lent:
            self.end_loan()
        if is_over(self):
            return 0
        self.now = now
        self.received_wire += size
        if buffer_size(&self.undecoded) == 0 and not self.is_decoding:
            self.is_decoding = True
            try:
                used = self.take_usual(data, size)
                if used < size or used == 0:
                    used += self.decode(data + used, size - used)
            finally:
                self.is_decoding = False
            if self.undecoded.end:
                return self.put_back(data + used, size - used)
        if used < size and not is_over(self) and buffer_append(&self.undecoded, data + used, size - used) < 0:
            raise MemoryError
        return 0

    cdef int put_back(self, const unsigned char *data, size_t size) except -1:
        """Have the rest of what was decoded wait before what Python code has fed meanwhile."""
        cdef Buffer rest = Buffer(NULL, 0, 0, 0)
        if buffer_append(&rest, data, size) < 0:
            raise MemoryError
        self.join_undecoded(&rest)
        return self.decode_held()

    @cython.final
    cdef size_t decode(self, unsigned char *data, size_t size) except? 0:
        """Decode until the bytes end, the application lags or the connection does; returns how many bytes were used."""
        cdef size_t used = 0
        cdef size_t count
        cdef const unsigned char *key
        while self.phase != CLOSED:
            if not self.in_frame:
                used += self.take_usual(data + used, size - used)
                if used == size or self.is_paused() or self.phase == CLOSED:
                    break
                used += self.begin_frame(data + used, size - used)
                if not self.in_frame:
                    break
                if self.frame.length <= size - used and self.is_whole_message():
                    self.in_frame = False
                    self.message_opcode = 0
                    key = self.frame.key if self.frame.masked else NULL
                    if self.frame_log is not None:
                        self.log_frame(
                            False, 0x80 | self.frame.reserved | self.frame.opcode, self.frame.length, data + used, key)
                    take_message(self, self.frame.opcode, data + used, self.frame.length, key)
                    used += self.frame.length
                    continue
            if self.frame.opcode & 0x8 == 0 and self.route == HELD_BACK:
                break
            count = min(self.remaining, size - used)
            if count or (self.inflation is not None and self.frame.opcode & 0x8 == 0):
                used += self.take_payload(data + used, count)
            if self.remaining or self.phase == CLOSED or self.is_stopped():
                break
            self.end_frame()
        return used

    @cython.final
    cdef size_t take_usual(self, unsigned char *data, size_t size) except? 0:
        """Take the messages at the front that are as most are: of one frame, all there, of less than 64 KiB, neither
        compressed nor to be logged or streamed.

        It goes no further than the first byte that is anything else, and says nothing of what that is: `decode` goes on
        from there with every case. Returns how many bytes were used.
        """
        cdef const unsigned char *header
        cdef size_t used = 0
        cdef size_t length, header_size
        cdef unsigned char mask_bit = 0 if self.client else 0x80
        if self.in_frame or self.header_size or self.message_opcode or self.wants_stream or self.phase != OPEN:
            return 0
        if self.frame_log is not None or self.route >= STREAMED:
            return 0
        self.route = WHOLE
        while size - used >= 4 and not is_lagging(self):
            header = data + used
            if header[0] != 0x80 | TEXT_FRAME and header[0] != 0x80 | BINARY_FRAME:
                break
            length = header[1] ^ mask_bit   # over 127 when the bit is not what it has to be
            header_size = 2
            if length == 126:
                length = (<size_t>header[2] << 8) | header[3]
                header_size = 4
                if length < 126:
                    break
            elif length > 126:
                break
            if mask_bit:
                header_size += 4
            if length > self.max_message or size - used < header_size + length:
                break
            used += header_size + length
            note_length(self, header[0] & 0x0F, length)
            take_message(
                self, header[0] & 0x0F, data + used - length, length, header + header_size - 4 if mask_bit else NULL)
            if self.phase != OPEN:
                break
        return used

    cdef bint is_whole_message(self) noexcept:
        return (
            self.frame.opcode & 0x8 == 0 and self.frame.fin and self.frame.opcode != 0 and self.route == WHOLE
            and self.inflation is None
        )

    cdef bint is_stopped(self) noexcept:
        """Whether the frame cannot be ended yet, though all of its payload came."""
        if self.frame.opcode & 0x8:
            return False
        return self.route >= HELD_BACK or (self.inflation is not None and self.inflation.pending is not None)

    cdef size_t begin_frame(self, const unsigned char *data, size_t size) except? 0:
        """Read a header, from several pieces if need be, and check that the frame may stand here.

        Returns how many bytes were used; `in_frame` tells whether the header was complete.
        """
        cdef size_t before = self.header_size
        cdef size_t count
        cdef int outcome = 0
        if before == 0:
            outcome = read_header(data, size, not self.client, self.reserved, &self.frame)
        if outcome <= 0:
            count = min(size, MAX_HEADER_SIZE - before)
            memcpy(self.header_bytes + before, data, count)
            outcome = read_header(self.header_bytes, before + count, not self.client, self.reserved, &self.frame)
        if outcome == 0:
            self.header_size = <unsigned char>(before + count)
            return count
        self.header_size = 0
        if outcome < 0:
            return self.refuse_header(HEADER_VIOLATIONS[-outcome], before, count)
        self.accept_frame()
        return <size_t>outcome - before

    cdef size_t refuse_header(self, object violation, size_t before, size_t count) except? 0:
        """Fail the connection because of a header that breaks a rule, or is no header but the beginning of HTTP.

        Returns how many bytes were used: `count` when it takes more of them to tell.
        """
        cdef HttpMessage found = find_http(self.header_bytes, before + count)
        if found == PERHAPS_HTTP:
            self.header_size = <unsigned char>(before + count)
            return count
        if found != NO_HTTP:
            violation = RULES["HTTP_RESPONSE" if found == HTTP_RESPONSE else "HTTP_REQUEST"]
        self.fail_by(violation)
        return 0

    cdef int accept_frame(self) except -1:
        """Check a complete header against the message under way and the size limit (RFC 6455 sections 5.4 and 10.4)."""
        cdef unsigned char opcode = self.frame.opcode
        self.remaining = self.frame.length
        if opcode & 0x8 == 0:
            # What is compressed or in fragments is as good as TEXT here: it is not expected again.
            note_length(self, opcode if self.frame.fin and not self.frame.reserved else TEXT_FRAME, self.frame.length)
        if self.frame.reserved and opcode & 0x8:
            return self.fail_by(RULES["COMPRESSED_CONTROL"])
        if opcode & 0x8 == 0:
            if opcode == CONTINUATION_FRAME and self.message_opcode == 0:
                return self.fail_by(RULES["UNEXPECTED_CONTINUATION"])
            if opcode != CONTINUATION_FRAME and self.message_opcode != 0:
                return self.fail_by(RULES["EXPECTED_CONTINUATION"])
            if self.phase == CLOSING:
                self.route = SKIPPED
            elif opcode != CONTINUATION_FRAME:
                self.route = WHOLE
            if self.frame.reserved:
                if opcode == CONTINUATION_FRAME:
                    return self.fail_by(RULES["COMPRESSED_CONTINUATION"])
                if self.route != SKIPPED:
                    self.set_inflation(Inflation.__new__(Inflation, self.codec, self.window))
            if opcode != CONTINUATION_FRAME:
                self.message_opcode = opcode
                self.utf8_state = UTF8_ACCEPT
            if self.route == STREAMED:
                self.accept_streamed()
                if is_over(self):
                    return 0
            elif self.route == WHOLE and (self.wants_stream or self.is_too_big()):
                if not self.wants_stream and not self.holds_large:
                    return self.fail_by(RULES["MESSAGE_TOO_BIG"])
                self.route = HELD_BACK
                self.has_news = True
        self.in_frame = True
        return 0

    cdef bint is_too_big(self) noexcept:
        """Whether the message under way, with all that its last frame declares, is larger than `max_message_size`."""
        if self.inflation is not None:
            return self.frame.length > self.max_deflated() or self.inflation.size > self.max_message
        return self.frame.length > self.max_message - self.assembled

    cdef int deliver(self, object message, size_t size) except -1:
        """Queue a message for the application; `size` is that of its payload."""
        incref(<PyObject *>message)
        return queue_message(self, <PyObject *>message, size)

    cdef size_t take_payload(self, unsigned char *data, size_t size) except? 0:
        """Take the next `size` bytes of the current frame's payload; returns how many were used: all, unless the
        message is compressed and its reader lags."""
        cdef size_t offset = self.frame.length - self.remaining
        cdef unsigned char *place
        if self.frame.opcode & 0x8:
            if self.control is NULL:
                self.control = <unsigned char *>PyMem_Malloc(MAX_CONTROL_PAYLOAD)
                if self.control is NULL:
                    raise MemoryError
            place = self.control + offset
        elif self.route == SKIPPED:
            self.remaining -= size
            return size
        elif self.inflation is not None:
            return self.take_deflated(data, size)
        elif self.route == STREAMED:
            self.take_piece(data, size)
            return size
        else:
            self.make_room(size)
            place = <unsigned char *>bytes_data(self.assembly) + self.assembled
        if self.frame.masked:
            mask_payload(place, data, size, self.frame.key, offset)
        else:
            memcpy(place, data, size)
        self.remaining -= size
        if self.frame.opcode & 0x8 == 0:
            self.count_payload(place, size)
        return size

    cdef size_t take_deflated(self, unsigned char *data, size_t size) except? 0:
        """Inflate the next bytes of a compressed message (RFC 7692 section 7.2.2); text is checked as it comes.

        Returns how many bytes were used: fewer than all when the message is streamed and its reader lags, or when it is
        held back.
        """
        cdef Inflation inflation = self.inflation   # held: another thread may end the connection meanwhile
        cdef size_t used = 0
        cdef size_t before, count
        cdef uint64_t limit
        cdef Inflated outcome
        while not inflation.is_complete or inflation.pending is not None:
            before = inflation.size
            limit = <uint64_t>STREAMED_PIECE if self.route == STREAMED else self.max_message
            count = 0
            if inflation.pending is None:
                count = min(size - used, <size_t>SLICE)
                if count == 0 and not (self.frame.fin and self.remaining == 0):
                    break
                if self.frame.masked:
                    mask_payload(data + used, data + used, count, self.frame.key, self.frame.length - self.remaining)
                self.remaining -= count
            outcome = inflation.feed(data + used, count, self.frame.fin and self.remaining == 0, limit)
            used += count
            if self.inflation is not inflation:     # the message was given up: what is left of it is skipped
                self.remaining -= size - used
                return size
            self.judge_inflated(inflation, outcome, before)
            if self.phase == CLOSED or (self.route != WHOLE and self.is_paused()):
                break
        return used

    cdef int judge_inflated(self, Inflation inflation, Inflated outcome, size_t before) except -1:
        """Check what was inflated, behind the first `before` bytes of it; a piece of a streamed message goes out."""
        cdef bint is_large = outcome == INFLATED_TOO_MUCH or inflation.taken > self.max_deflated()
        if outcome == NOT_DEFLATED:
            return self.fail_by(RULES["NOT_DEFLATED"])
        if is_large and self.route != STREAMED and not self.holds_large:
            return self.fail_by(RULES["MESSAGE_TOO_BIG"])
        if self.message_opcode == TEXT_FRAME and inflation.size > before:
            self.utf8_state = utf8_check(self.utf8_state, inflation.inflated() + before, inflation.size - before)
            if self.utf8_state == UTF8_REJECT:
                return self.fail_by(RULES["TEXT_NOT_UTF8"])
        if self.route == STREAMED:
            return self.adopt()
        if is_large:
            self.route = HELD_BACK
            self.has_news = True
        return 0

    cdef uint64_t max_deflated(self) noexcept:
        """How many bytes a compressed message may have before it is inflated."""
        return self.max_message + self.max_message // 4 + DEFLATE_OVERHEAD

    cdef int finish_inflated(self, unsigned char opcode) except -1:
        """Deliver the message that was inflated."""
        cdef bytes data
        cdef const unsigned char *text
        if opcode == TEXT_FRAME and self.utf8_state != UTF8_ACCEPT:
            return self.fail_by(RULES["TEXT_NOT_UTF8"])
        data = self.inflation.take_result()
        self.set_inflation(None)
        if opcode == BINARY_FRAME:
            return self.deliver(data, PyBytes_GET_SIZE(data))
        text = <const unsigned char *>PyBytes_AS_STRING(data)
        return queue_text(self, text, PyBytes_GET_SIZE(data), is_ascii(text, PyBytes_GET_SIZE(data)))

    cdef int count_payload(self, const unsigned char *place, size_t size) except -1:
        """Make `size` unmasked bytes behind the end of the assembly part of it; text is checked as it comes."""
        self.assembled += size
        if self.message_opcode == TEXT_FRAME:
            self.utf8_state = utf8_check(self.utf8_state, place, size)
            if self.utf8_state == UTF8_REJECT:
                return self.fail_by(RULES["TEXT_NOT_UTF8"])
        return 0

    cdef int make_room(self, size_t size) except -1:
        """Have room for `size` more bytes in the assembly, and for what the frame declares within reason."""
        cdef size_t capacity = 0 if self.assembly is NULL else bytes_size(self.assembly)
        cdef size_t wanted
        if self.assembly is not NULL and self.assembled + size <= capacity:
            return 0
        wanted = min(self.assembled + self.remaining, max(<size_t>EAGER_MEMORY, 2 * capacity))
        # Half as much again, so that a message of many small fragments is not moved for each; 64 bytes, so that the
        # object is never one of the shared ones of 0 or 1 byte, which must not be resized.
        wanted = max(wanted, self.assembled + size, capacity + capacity // 2, <size_t>64)
        if wanted >= LARGE_MESSAGE:
            keep_freed_memory()
        if self.assembly is NULL:
            self.assembly = new_bytes(NULL, wanted)
            if self.assembly is NULL:
                raise MemoryError
        elif resize_bytes(&self.assembly, wanted) < 0:
            self.assembled = 0
            raise MemoryError
        return 0

    cdef int end_frame(self) except -1:
        self.in_frame = False
        if self.frame_log is not None:
            self.log_end_of_frame()
        if self.frame.opcode & 0x8:
            return self.take_control()
        if not self.frame.fin:
            return 0
        cdef unsigned char opcode = self.message_opcode
        self.message_opcode = 0
        if self.route == SKIPPED:
            self.set_inflation(None)
            return 0
        return self.finish_message(opcode)

    cdef int finish_message(self, unsigned char opcode) except -1:
        """Deliver the message that was put together."""
        cdef PyObject *assembly
        cdef const unsigned char *text
        cdef size_t size = self.assembled
        if self.route == STREAMED:
            return self.finish_streamed()
        if self.inflation is not None:
            return self.finish_inflated(opcode)
        if opcode == TEXT_FRAME and self.utf8_state != UTF8_ACCEPT:
            return self.fail_by(RULES["TEXT_NOT_UTF8"])
        if self.assembly is NULL:
            return self.deliver(b"" if opcode == BINARY_FRAME else "", 0)
        assembly = self.assembly
        self.assembly = NULL
        self.assembled = 0
        if opcode == BINARY_FRAME:
            if resize_bytes(&assembly, size) < 0:
                raise MemoryError
            return queue_message(self, assembly, size)
        try:
            text = <const unsigned char *>bytes_data(assembly)
            return queue_text(self, text, size, is_ascii(text, size))
        finally:
            drop(assembly)


cdef inline size_t message_cost(PyObject *message) noexcept:
    if is_bytes(message):
        return bytes_size(message) + MESSAGE_OVERHEAD
    return text_length(message) * text_kind(message) + MESSAGE_OVERHEAD


# Parts of the inner loop: functions, so that they can become a part of it.

cdef inline int take_message(
    Inbound self, unsigned char opcode, unsigned char *data, size_t size, const unsigned char *key
) except -1:
    """Deliver a message that is one frame and all there; `key` is NULL when it is not masked."""
    cdef PyObject *binary
    if opcode == TEXT_FRAME:
        return queue_text(self, data, size, is_ascii(data, size) if key is NULL else unmask_text(data, data, size, key))
    if key is NULL:
        return queue_message(self, new_bytes(<const char *>data, size), size)
    binary = new_bytes(NULL, size)
    if binary is not NULL:
        mask_payload(<unsigned char *>bytes_data(binary), data, size, key, 0)
    return queue_message(self, binary, size)


cdef inline int note_length(Inbound self, unsigned char opcode, size_t length) noexcept:
    """Learn what the messages are like."""
    self.is_steady = opcode == BINARY_FRAME and length == self.last_length
    self.last_length = length
    return 0


cdef inline int queue_text(Inbound self, const unsigned char *data, size_t size, bint is_plain) except -1:
    """Queue a TEXT message for the application. One that is all ASCII, plain, need not be looked at again."""
    cdef PyObject *text
    if is_plain and size > 1:   # of single characters CPython has one object each
        text = new_text(size, 127)
        if text is not NULL:
            memcpy(text_data(text), data, size)
    else:
        text = decode_utf8(<const char *>data, size, NULL)
        if text is NULL and PyErr_ExceptionMatches(UnicodeDecodeError):
            PyErr_Clear()
            return self.fail_by(RULES["TEXT_NOT_UTF8"])
    return queue_message(self, text, size)


cdef inline int queue_message(Inbound self, PyObject *message, size_t size) except -1:
    """Queue a message that was just made, and take it over; NULL when that has raised an exception."""
    if message is NULL:
        return -1
    if queue_push(&self.messages, message) < 0:
        drop(message)
        raise MemoryError
    self.message_bytes += message_cost(message)
    self.received_messages += self.route != STREAMED    # a piece is none
    self.received_payload += size
    return 0
