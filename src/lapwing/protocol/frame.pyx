"""The frame of RFC 6455 section 5.2: its header read and written, its payload masked.

This module knows single frames and nothing of messages, roles or states: `decoder` decides on their order.
"""

import os
from enum import IntEnum

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcmp, memcpy
from libc.stdint cimport uint64_t

from ..native.sharing cimport IS_FREE_THREADED, give_lock, take_lock
from .violation cimport (
    CONTROL_TOO_LONG, FRAGMENTED_CONTROL, LENGTH_NOT_MINIMAL, LENGTH_SIGN_BIT, MASKED_FRAME, RESERVED_BIT,
    RESERVED_OPCODE, UNMASKED_FRAME,
)

__all__ = ["BINARY", "MaskingKeys", "Opcode", "TEXT", "apply_mask", "build_frame"]


class Opcode(IntEnum):
    """The types of frames (RFC 6455 section 11.8)."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


TEXT = Opcode.TEXT
BINARY = Opcode.BINARY


cdef int read_header(
    const unsigned char *data, size_t available, bint masked, unsigned char reserved, FrameHeader *header
) noexcept nogil:
    cdef size_t size = 2
    cdef unsigned char short_length
    if available < 2:
        return 0
    header.fin = data[0] & 0x80 != 0
    header.reserved = data[0] & 0x70
    header.opcode = data[0] & 0x0F
    header.masked = data[1] & 0x80 != 0
    short_length = data[1] & 0x7F
    if header.reserved & ~reserved:
        return -RESERVED_BIT
    if header.masked != masked:
        return -UNMASKED_FRAME if masked else -MASKED_FRAME
    if header.opcode & 0x8:
        if header.opcode > PONG_FRAME:
            return -RESERVED_OPCODE
        if not header.fin:
            return -FRAGMENTED_CONTROL
        if short_length > MAX_CONTROL_PAYLOAD:
            return -CONTROL_TOO_LONG
    elif header.opcode > BINARY_FRAME:
        return -RESERVED_OPCODE
    if short_length < 126:
        header.length = short_length
    elif short_length == 126:
        size = 4
        if available < size:
            return 0
        header.length = (<uint64_t>data[2] << 8) | data[3]
        if header.length < 126:
            return -LENGTH_NOT_MINIMAL
    else:
        size = 10
        if available < size:
            return 0
        header.length = read_big_endian(data + 2)
        if header.length >> 63:
            return -LENGTH_SIGN_BIT
        if header.length <= 0xFFFF:
            return -LENGTH_NOT_MINIMAL
    if masked:
        if available < size + 4:
            return 0
        memcpy(header.key, data + size, 4)
        size += 4
    return <int>size


# The beginning of a status line, with 0 for any digit.
cdef const char *STATUS_LINE = "HTTP/1.0 000"
# Methods of requests, with the space behind them.
cdef tuple METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"CONNECT ", b"OPTIONS ", b"TRACE ", b"PATCH ")


cdef HttpMessage find_http(const unsigned char *data, size_t available) noexcept:
    cdef bytes method
    cdef size_t size
    cdef size_t i
    cdef unsigned char expected
    for i in range(min(available, <size_t>STATUS_END)):
        expected = STATUS_LINE[i]
        if data[i] != expected and not (expected == c"0" and c"1" <= data[i] <= c"9"):
            break
    else:
        return HTTP_RESPONSE_FOUND if available >= STATUS_END else PERHAPS_HTTP
    for method in METHODS:
        size = PyBytes_GET_SIZE(method)
        if memcmp(data, PyBytes_AS_STRING(method), min(size, available)) == 0:
            return HTTP_REQUEST_FOUND if available >= size else PERHAPS_HTTP
    return NO_HTTP


cdef inline uint64_t read_big_endian(const unsigned char *data) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(8):
        value = (value << 8) | data[i]
    return value


cdef class MaskingKeys:
    """A source of masking keys (RFC 6455 sections 5.3 and 10.3): each key is used once and cannot be predicted.

    The random bytes are fetched in bulk, because one system call per frame would cost more than the frame. A child made
    by `os.fork` begins with fresh ones. Any number of threads may call `next` and `discard`.

    Args:
        random_bytes: called with a number of bytes, returns that many random bytes from a cryptographic source.
    """

    def __init__(self, random_bytes=os.urandom):
        self.random_bytes = random_bytes
        self.pool = b""
        self.used = 0
        self.process = forks

    cdef int prepare(self) except -1:
        cdef bytes pool
        if self.used + 4 > PyBytes_GET_SIZE(self.pool) or self.process != forks:
            pool = self.random_bytes(1024)
            if len(pool) < 4:
                raise ValueError(f"expected at least 4 random bytes for a masking key, got {len(pool)}")
            self.pool = pool
            self.used = 0
            self.process = forks
        return 0

    cdef int take(self, unsigned char *key) except -1:
        self.prepare()
        memcpy(key, <const unsigned char *>self.pool + self.used, 4)
        self.used += 4
        return 0

    def next(self):
        """Return the next masking key, 4 bytes."""
        cdef unsigned char key[4]
        take_lock(&self.lock)
        try:
            self.take(key)
        finally:
            give_lock(&self.lock)
        return (<char *>key)[:4]

    def discard(self):
        """Forget the random bytes that are left: the next key comes from fresh ones."""
        take_lock(&self.lock)
        try:
            self.pool = b""
            self.used = 0
        finally:
            give_lock(&self.lock)


# The forks that led to this process from the one that loaded the module.
cdef unsigned long forks = 0


def count_fork():
    """Learn that this process is a child: it must not use a key that its parent may use, too."""
    global forks
    forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=count_fork)

#: The keys of every client of this process; without the GIL each has its own, so that none waits for another.
masking_keys = MaskingKeys()


cdef MaskingKeys keys_for_endpoint():
    return MaskingKeys() if IS_FREE_THREADED else masking_keys


def apply_mask(payload, bytes key not None, Py_ssize_t offset=0):
    """Mask or unmask `payload` (RFC 6455 section 5.3).

    Args:
        payload: bytes-like.
        key: the masking key, 4 bytes.
        offset: the place of the first byte of `payload` in the whole payload, for one that comes in pieces.

    Returns:
        The masked bytes; masking them again gives `payload`.

    Raises:
        ValueError: the key is not 4 bytes long, or the offset is negative.
    """
    if len(key) != 4:
        raise ValueError(f"expected a masking key of 4 bytes, got {len(key)}")
    if offset < 0:
        raise ValueError(f"expected an offset of 0 or more, got {offset}")
    cdef const unsigned char[::1] view = memoryview(payload).cast("B")
    cdef bytearray out = bytearray(view.shape[0])
    if view.shape[0]:
        mask_payload(<unsigned char *><char *>out, &view[0], view.shape[0], <const unsigned char *>key, offset)
    return bytes(out)


def build_frame(int opcode, payload=b"", *, bint fin=True, int reserved=0, key=None):
    """Build one frame, legal or not (RFC 6455 section 5.2): for tests, tools and prepared messages.

    Args:
        opcode: 0 to 15.
        payload: bytes-like.
        fin: whether the frame is the last one of its message.
        reserved: the three reserved bits as a number, 0 to 7; RSV1 is 4.
        key: a masking key of 4 bytes, or None for a frame that is not masked.

    Raises:
        ValueError: an argument is out of its range.
    """
    cdef unsigned char header[MAX_HEADER_SIZE]
    cdef bytes data = bytes(memoryview(payload))
    cdef const unsigned char *key_bytes = NULL
    if not 0 <= opcode <= 15:
        raise ValueError(f"expected an opcode from 0 to 15, got {opcode}")
    if not 0 <= reserved <= 7:
        raise ValueError(f"expected reserved bits from 0 to 7, got {reserved}")
    if key is not None:
        data = apply_mask(data, key)
        key_bytes = <const unsigned char *><bytes>key
    cdef int size = write_header(header, (0x80 if fin else 0) | (reserved << 4) | opcode, len(data), key_bytes)
    return (<char *>header)[:size] + data
