# The frame of RFC 6455 section 5.2: its header read and written, its payload masked.

from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from ..native.sharing cimport Lock


cdef extern from "mask.h" nogil:
    void mask_payload "lapwing_mask"(
        unsigned char *to, const unsigned char *source, size_t size, const unsigned char *key, size_t offset)

    bint unmask_text "lapwing_unmask_text"(
        unsigned char *to, const unsigned char *source, size_t size, const unsigned char *key)


cdef enum:
    CONTINUATION_FRAME = 0x0
    TEXT_FRAME = 0x1
    BINARY_FRAME = 0x2
    CLOSE_FRAME = 0x8
    PING_FRAME = 0x9
    PONG_FRAME = 0xA

    # A header is 2 bytes, a length of 0, 2 or 8 more, and a masking key of 0 or 4.
    MAX_HEADER_SIZE = 14
    MAX_CONTROL_PAYLOAD = 125

    # RSV1 of a data frame: the message is compressed (RFC 7692 section 6).
    COMPRESSED = 0x40


cdef struct FrameHeader:
    uint64_t length          # of the payload, in bytes
    unsigned char key[4]     # the masking key; means nothing unless `masked`
    unsigned char opcode
    unsigned char reserved   # the reserved bits in place: 0x40, 0x20, 0x10
    bint fin
    bint masked


# Read a header from the first `available` bytes. Returns its size; 0 while it is incomplete; minus a Fault as
# soon as the bytes at hand break a rule. `masked` is the demand of the peer's role, `reserved` the bits that have a
# meaning.
cdef int read_header(
    const unsigned char *data, size_t available, bint masked, unsigned char reserved, FrameHeader *header
) noexcept nogil

# What bytes that are no frame may be instead.
cdef enum HttpMessage:
    NO_HTTP
    PERHAPS_HTTP    # the bytes at hand are too few to tell
    HTTP_RESPONSE_FOUND
    HTTP_REQUEST_FOUND

# How much of a response tells its status.
cdef enum:
    STATUS_END = 12

# Tell whether bytes begin an HTTP/1 message (RFC 9112 sections 3 and 4). None that does begins a frame as well.
cdef HttpMessage find_http(const unsigned char *data, size_t available) noexcept

# Write a header to `out` (room for MAX_HEADER_SIZE bytes); `key` is NULL for a frame that is not masked. Returns its
# size. It stands here to become a part of its callers.
cdef inline int write_header(
    unsigned char *out, unsigned char first_byte, uint64_t length, const unsigned char *key
) noexcept nogil:
    cdef unsigned char mask_bit = 0 if key is NULL else 0x80
    cdef int size = 2
    cdef int i
    out[0] = first_byte
    if length < 126:
        out[1] = <unsigned char>(mask_bit | length)
    elif length <= 0xFFFF:
        out[1] = mask_bit | 126
        out[2] = <unsigned char>(length >> 8)
        out[3] = <unsigned char>(length & 0xFF)
        size = 4
    else:
        out[1] = mask_bit | 127
        for i in range(8):
            out[2 + i] = <unsigned char>((length >> (56 - 8 * i)) & 0xFF)
        size = 10
    if key is not NULL:
        memcpy(out + size, key, 4)
        size += 4
    return size


cdef class MaskingKeys:
    cdef object random_bytes
    cdef unsigned long process      # counts the forks before this process began, as it was when the bytes were fetched
    cdef bytes pool
    cdef Py_ssize_t used
    cdef Lock lock                  # for calls of threads; the owner orders those of an endpoint

    # Have the next key at hand. Fetching random bytes may let other threads run; `take` right after this does not.
    cdef int prepare(self) except -1
    cdef int take(self, unsigned char *key) except -1


# Keys for one more endpoint.
cdef MaskingKeys keys_for_endpoint()
