"""Large messages read right into their place: the `bytes` object that the application will get.

Two cases. Of the message under way much is missing: the rest of it goes there. Or none is under way, but the last two
were large and of the same size, as those of a program often are: one more like them is expected. The kernel is then
asked to put as many bytes as its header will have into the reader's buffer, and the next ones into the place. When the
header turns out to be another, all is put together in the buffer as it came, and taken from there.

While somebody reads into the place, it is lent: see `drop_assembly` for what happens when others end the message.
"""

from cpython.object cimport PyObject
from libc.string cimport memcmp, memcpy, memmove

from ..native.buffer cimport buffer_size
from ..native.landing cimport Landing
from .frame cimport BINARY_FRAME, MAX_HEADER_SIZE, mask_payload, read_header, write_header
from .inbound cimport SKIPPED, STREAMED, WHOLE, Inbound, is_over
from .limits cimport LARGE_REST, MOST_EXPECTED
from .state cimport CLOSED, OPEN

__all__ = ["Placing"]


cdef extern from *:
    char *bytes_data "PyBytes_AS_STRING"(PyObject *bytes)
    Py_ssize_t bytes_size "PyBytes_GET_SIZE"(PyObject *bytes)
    void drop "Py_XDECREF"(PyObject *object)


cdef class Placing(Inbound):
    """An endpoint's receiving half with places for what is read; see `Endpoint`, which is what to use."""

    cdef int find_landing(self, Landing *landing, bint may_expect) except -1:
        if self.is_lent:
            self.end_loan()
        landing.head = 0
        landing.room = NULL
        if self.in_frame:
            if (
                self.remaining < LARGE_REST or self.frame.opcode & 0x8 or self.phase != OPEN or self.route != WHOLE
                or buffer_size(&self.undecoded) or self.inflation is not None
            ):
                return 0
            self.make_room(1)
            landing.room_size = min(self.remaining, <size_t>bytes_size(self.assembly) - self.assembled)
        elif may_expect and self.is_steady and LARGE_REST <= self.last_length <= MOST_EXPECTED:
            if self.last_length > self.max_message or not self.is_between_messages():
                return 0
            self.make_room(self.last_length)
            landing.room_size = self.last_length
            landing.head = (4 if self.last_length <= 0xFFFF else 10) + (0 if self.client else 4)
        else:
            return 0
        self.is_lent = True
        landing.room = <unsigned char *>bytes_data(self.assembly) + self.assembled
        return 0

    cdef bint is_between_messages(self) noexcept:
        """Whether the next byte begins a message, if it is one, that would be put together."""
        return (
            not self.in_frame and self.header_size == 0 and self.message_opcode == 0 and self.phase == OPEN
            and not self.wants_stream and self.route == WHOLE and self.frame_log is None and not self.is_decoding
            and not buffer_size(&self.undecoded) and not self.is_paused()
        )

    cdef bint is_expected(self, const unsigned char *header, size_t size) noexcept:
        """Whether a header is that of a message as the last one was."""
        cdef unsigned char expected[MAX_HEADER_SIZE]
        cdef size_t key_size = 0 if self.client else 4
        write_header(expected, 0x80 | BINARY_FRAME, self.last_length, NULL)
        expected[1] |= 0 if self.client else 0x80
        return memcmp(header, expected, size - key_size) == 0

    cdef int take_landed(self, const Landing *landing, unsigned char *buffer, size_t count, double now) except -1:
        cdef size_t head = landing.head
        cdef size_t inside
        if landing.room is NULL:
            return self.feed(buffer, count, now)
        inside = min(count - head, landing.room_size) if count > head else 0
        if head:
            if (
                not inside or self.assembly is NULL or not self.is_between_messages()
                or not self.is_expected(buffer, head)
            ):
                return self.take_unexpected(landing, buffer, count, now)
            self.received_wire += head
            read_header(buffer, head, not self.client, self.reserved, &self.frame)
            self.accept_frame()
        self.is_decoding = True
        try:
            self.payload_received(inside, now)
        finally:
            self.is_decoding = False
        if count > head + inside:
            self.feed(buffer + head, count - head - inside, now)
        return 0

    cdef int take_unexpected(self, const Landing *landing, unsigned char *buffer, size_t count, double now) except -1:
        """Take what was not the message expected: put together in the buffer, in the order in which it came."""
        cdef size_t head = landing.head
        cdef size_t inside = min(count - head, landing.room_size) if count > head else 0
        if inside:
            memmove(buffer + head + inside, buffer + head, count - head - inside)
            memcpy(buffer + head, landing.room, inside)
        self.end_loan()
        self.is_steady = False
        if self.assembly is not NULL and self.is_between_messages():
            drop(self.assembly)
            self.assembly = NULL
        return self.feed(buffer, count, now)

    cdef int payload_received(self, size_t size, double now) except -1:
        cdef unsigned char *place
        self.end_loan()
        if is_over(self):
            return 0
        self.now = now
        self.received_wire += size
        if self.route == SKIPPED:   # its message was given up while the bytes were on their way
            self.remaining -= size
        else:
            place = <unsigned char *>bytes_data(self.assembly) + self.assembled
            if self.frame.masked:
                mask_payload(place, place, size, self.frame.key, self.frame.length - self.remaining)
            self.remaining -= size
            self.count_payload(place, size)
            if self.route == STREAMED and self.phase != CLOSED:     # it became so in that time
                self.adopt()
        if self.remaining == 0 and not is_over(self):
            self.end_frame()
        return 0
