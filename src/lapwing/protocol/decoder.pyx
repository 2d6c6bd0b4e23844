"""From the peer's bytes to frames (RFC 6455 section 5).

A header may come in pieces, which wait here. The payload of a control frame is collected; that of a data frame is the
caller's to take, as it comes: its place, and the value of the message, are not known here. The order of frames is
(section 5.4): which may stand between the fragments of a message. A broken rule is a value, `fault`.
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.string cimport memcpy

from .frame cimport (
    CONTINUATION_FRAME, HTTP_RESPONSE_FOUND, MAX_CONTROL_PAYLOAD, MAX_HEADER_SIZE, NO_HTTP, PERHAPS_HTTP, STATUS_END,
    HttpMessage, find_http, mask_payload, read_header,
)
from .violation cimport (
    COMPRESSED_CONTINUATION, COMPRESSED_CONTROL, EXPECTED_CONTINUATION, HTTP_REQUEST, HTTP_RESPONSE, NO_FAULT,
    UNEXPECTED_CONTINUATION, Fault,
)

__all__ = ["Decoder"]


@cython.freelist(32)
cdef class Decoder:
    """The frames of one peer, decoded one after the other.

    Args:
        is_client: whether this end is the client: then frames must not be masked, otherwise they must (RFC 6455 section
            5.1).
        reserved: the reserved bits that an extension gave a meaning, as they stand in the first byte of a header.
    """

    def __init__(self, bint is_client, unsigned char reserved=0):
        self.is_client = is_client
        self.reserved = reserved

    def __dealloc__(self):
        PyMem_Free(self.control)

    def decode(self, bytes data not None):
        """Decode bytes, and skip the payloads of data frames.

        Returns:
            A list with an item for each thing found. `(opcode, fin, length)` is the header of a data frame, `(opcode,
            payload)` a control frame, and a number the rule that is broken, counted from 1 in the order of `Violation`:
            it is the last one.
        """
        cdef const unsigned char *place = data
        cdef size_t size = len(data)
        cdef size_t offset = 0, used
        cdef Found found = DATA_FRAME
        cdef list frames = []
        while found != NEED_MORE and found != BROKEN_RULE:
            if self.stage == IN_DATA:
                used = min(self.remaining, size - offset)
                self.remaining -= used
                offset += used
                if self.remaining:
                    break
                self.end_frame()
            found = self.read(place + offset, size - offset, &used)
            offset += used
            if found == DATA_FRAME:
                frames.append((self.frame.opcode, self.frame.fin, self.frame.length))
            elif found == CONTROL_FRAME:
                frames.append((self.frame.opcode, self.take_control()))
            elif found == BROKEN_RULE:
                frames.append(<int>self.fault)
        return frames

    cdef Found read(self, const unsigned char *data, size_t size, size_t *used) except? NEED_MORE:
        cdef size_t before = self.header_size
        cdef size_t count
        cdef int outcome = 0
        if self.stage == IN_CONTROL:
            return self.read_control(data, size, used)
        used[0] = 0
        if size == 0:
            return NEED_MORE
        if before == 0:
            outcome = read_header(data, size, not self.is_client, self.reserved, &self.frame)
        if outcome <= 0:
            count = min(size, MAX_HEADER_SIZE - before)
            memcpy(self.header_bytes + before, data, count)
            outcome = read_header(
                self.header_bytes, before + count, not self.is_client, self.reserved, &self.frame)
            if outcome <= 0:
                self.header_size = <unsigned char>(before + count)
                used[0] = count
                if outcome == 0:
                    return NEED_MORE
                self.fault = <Fault>-outcome
                return self.refuse_header()
        self.header_size = 0
        used[0] = <size_t>outcome - before
        self.fault = self.find_fault()
        if self.fault != NO_FAULT:
            return BROKEN_RULE
        self.remaining = self.frame.length
        if self.frame.opcode & 0x8 == 0:
            if self.frame.opcode != CONTINUATION_FRAME:
                self.message_opcode = self.frame.opcode
            self.stage = IN_DATA
            return DATA_FRAME
        self.stage = IN_CONTROL
        data += used[0]
        found = self.read_control(data, size - used[0], &count)
        used[0] += count
        return found

    cdef Fault find_fault(self) noexcept:
        """Find the rule that a complete header breaks where it stands (RFC 6455 section 5.4, RFC 7692 section 6.1)."""
        cdef unsigned char opcode = self.frame.opcode
        if opcode & 0x8:
            return COMPRESSED_CONTROL if self.frame.reserved else NO_FAULT
        if opcode != CONTINUATION_FRAME:
            return NO_FAULT if self.message_opcode == 0 else EXPECTED_CONTINUATION
        if self.message_opcode == 0:
            return UNEXPECTED_CONTINUATION
        return COMPRESSED_CONTINUATION if self.frame.reserved else NO_FAULT

    cdef Found refuse_header(self) noexcept:
        """Tell a header that breaks a rule from the beginning of HTTP, which takes more bytes in some cases."""
        cdef HttpMessage found = find_http(self.header_bytes, self.header_size)
        if found == PERHAPS_HTTP:
            self.fault = NO_FAULT
            return NEED_MORE
        if found != NO_HTTP:
            self.fault = HTTP_RESPONSE if found == HTTP_RESPONSE_FOUND else HTTP_REQUEST
        return BROKEN_RULE

    cdef Found read_control(self, const unsigned char *data, size_t size, size_t *used) except? NEED_MORE:
        cdef size_t count = min(self.remaining, size)
        cdef size_t offset = self.frame.length - self.remaining
        used[0] = count
        if count:
            if self.control is NULL:
                self.control = <unsigned char *>PyMem_Malloc(MAX_CONTROL_PAYLOAD)
                if self.control is NULL:
                    raise MemoryError
            if self.frame.masked:
                mask_payload(self.control + offset, data, count, self.frame.key, offset)
            else:
                memcpy(self.control + offset, data, count)
            self.remaining -= count
        if self.remaining:
            return NEED_MORE
        self.stage = IN_HEADER
        return CONTROL_FRAME

    cdef bytes take_control(self):
        cdef bytes payload = b""
        if self.frame.length:
            payload = (<char *>self.control)[:self.frame.length]
            PyMem_Free(self.control)
            self.control = NULL
        return payload

    cdef str status(self):
        return (<char *>self.header_bytes)[STATUS_END - 3:STATUS_END].decode()
