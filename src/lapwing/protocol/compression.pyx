"""What permessage-deflate does to payloads (RFC 7692 section 7.2): compressing messages, and inflating them in bounds.

Without context takeover every message stands for itself, and a connection owns nothing for compression: it borrows.

A compressor is borrowed from a pool for the time of one message and flushed with Z_FULL_FLUSH, which makes it forget
its input, so nothing of one message can be referred to by the next. While it is in use it is out of the pool, so
it needs no lock and belongs to no thread: the library lets other threads run while it compresses, and one of these that
wants to compress finds another compressor or makes one. (To take one out of a list is one step, without the GIL, too.)
A pool is thus as large as the threads that ever compressed at the same moment, and one that failed half-way is simply
not given back. A decompressor cannot be made to forget, so
every message gets a fresh one, which costs a microsecond: a message of the peer can refer to itself only.

With context takeover a compressor belongs to its connection, and is made when the first message is compressed. To
forget it and begin with a new one is always allowed, since then nothing is referred to: that is what happens when
anything goes wrong between compressing and queueing. Where the peer may refer to its earlier messages, the connection
keeps the end of its compressed messages, as many bytes as the window has at most, and hands them to the
decompressor of the next message as its dictionary. So a decompressor never outlives its message, and its end can be
made sure of: see `END`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.buffer cimport PyBUF_READ
from cpython.object cimport PyObject
from cpython.pythread cimport (
    NOWAIT_LOCK, WAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock,
    PyThread_get_thread_ident, PyThread_release_lock,
)
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from .limits cimport BYTES_PER_FINAL_BLOCK, FINAL_BLOCKS, LAST_PIECE, PIECE, POOL_SIZE, SMALL_MESSAGE
from ..native.sharing cimport IS_FREE_THREADED, Lock, give_lock, take_lock

__all__ = ["Inflation", "PerMessageDeflate", "load_library"]


cdef extern from *:
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *bytes, Py_ssize_t size)
    int resize_bytes "_PyBytes_Resize"(PyObject **bytes, Py_ssize_t size)
    void drop "Py_XDECREF"(PyObject *object)
    char *bytes_data "PyBytes_AS_STRING"(PyObject *bytes)
    Py_ssize_t bytes_size "PyBytes_GET_SIZE"(PyObject *bytes)


cdef enum:
    # The level of messages below `SMALL_MESSAGE`.
    SMALL_LEVEL = 9
    LEVEL = 6
    # With context takeover: 6 misses too much of earlier messages (bench/NOTES.md).
    LEVEL_WITH_CONTEXT = 7


# Appended to a payload before it is inflated: the four bytes that were not sent (RFC 7692 section 7.2.2), and an empty
# block with BFINAL set. When the decompressor has come to its end with the last byte, the payload was complete.
cdef bytes END = b"\x00\x00\xff\xff\x03\x00"

# An empty block without compression, as a payload: a compressor without input does not make it again.
cdef bytes EMPTY = b"\x00\x00\x00\xff\xff"

# The library, loaded when the first message is compressed or inflated; without the GIL, when the first codec is made:
# then no thread looks at these while another one sets them.
cdef object library = None
cdef Lock loading
cdef object new_compressor, new_decompressor, ZLibError
cdef int FULL_FLUSH, SYNC_FLUSH, DEFLATED

# Idle compressors by their parameters.
cdef dict pools = {}


cdef int load() except -1:
    global library, new_compressor, new_decompressor, ZLibError, FULL_FLUSH, SYNC_FLUSH, DEFLATED
    from zlib_ng import zlib_ng

    if library is not None:
        return 0
    new_compressor = zlib_ng.compressobj
    new_decompressor = zlib_ng.decompressobj
    ZLibError = zlib_ng.error
    FULL_FLUSH = zlib_ng.Z_FULL_FLUSH
    SYNC_FLUSH = zlib_ng.Z_SYNC_FLUSH
    DEFLATED = zlib_ng.DEFLATED
    library = zlib_ng
    return 0


def load_library():
    """Load the library of compression now, rather than in the middle of a message."""
    take_lock(&loading)
    try:
        load()
    finally:
        give_lock(&loading)


cdef class PerMessageDeflate:
    """permessage-deflate as agreed on (RFC 7692): it compresses and inflates for an endpoint.

    One object may serve any number of connections, unless it `keeps_outgoing`.

    Args:
        keeps_outgoing: whether messages that are sent refer to earlier ones.
        keeps_incoming: whether messages that are received may do so.
        outgoing_window_bits: base-2 logarithm of the window to compress with, 9 to 15; 8 never compresses, because no
            common library does so rightly with a window of 256 bytes.
        incoming_window_bits: of the window that the peer compresses with, 8 to 15.
        level: from 1, quick, to 9, small; None for what suits the size.
        memory_level: from 1, little memory, to 9.
        threshold: messages of fewer bytes are not compressed unless that is asked for.
    """

    def __init__(
        self, *, bint keeps_outgoing, bint keeps_incoming, int outgoing_window_bits, int incoming_window_bits,
        level, int memory_level, size_t threshold
    ):
        self.keeps_outgoing = keeps_outgoing
        self.keeps_incoming = keeps_incoming
        self.outgoing_window_bits = outgoing_window_bits
        self.incoming_window_bits = incoming_window_bits
        if level is None:
            self.level = LEVEL_WITH_CONTEXT if keeps_outgoing else LEVEL
        else:
            self.level = level
        self.memory_level = memory_level
        self.threshold = threshold
        if IS_FREE_THREADED:
            take_lock(&loading)
            try:
                load()
            finally:
                give_lock(&loading)
        if not keeps_outgoing:
            key = (self.level, outgoing_window_bits, memory_level)
            self.pool = self.small_pool = pools.setdefault(key, [])
            if level is None:
                key = (SMALL_LEVEL, outgoing_window_bits, memory_level)
            self.small_pool = pools.setdefault(key, [])

    def __dealloc__(self):
        if self.lock is not NULL:
            PyThread_free_lock(self.lock)

    @property
    def name(self):
        """The extension token."""
        return "permessage-deflate"

    def __repr__(self):
        return (
            f"<permessage-deflate outgoing: {self.outgoing_window_bits} bits"
            f"{', context takeover' if self.keeps_outgoing else ''}; incoming: {self.incoming_window_bits} bits"
            f"{', context takeover' if self.keeps_incoming else ''}>")

    cdef bint is_held_here(self) noexcept:
        """Whether this thread is between `acquire` and `release`: in Python code that compressing has run."""
        return self.holder == <unsigned long>PyThread_get_thread_ident()

    cdef int acquire(self) except -1:
        """Keep other threads from compressing with the compressor of this connection."""
        if self.lock is NULL:
            self.lock = PyThread_allocate_lock()
            if self.lock is NULL:
                raise MemoryError
        if not PyThread_acquire_lock(self.lock, NOWAIT_LOCK):
            with nogil:
                PyThread_acquire_lock(self.lock, WAIT_LOCK)
        self.holder = <unsigned long>PyThread_get_thread_ident()
        return 0

    cdef int release(self) noexcept:
        self.holder = 0
        PyThread_release_lock(self.lock)
        return 0

    cdef int forget(self) noexcept:
        self.compressor = None
        return 0

    cdef list pool_for(self, size_t size):
        return self.small_pool if size < SMALL_MESSAGE else self.pool

    cdef object take(self, list pool):
        """Take a compressor out of a pool, or make one; None for the pool means the connection's own."""
        cdef int level = self.level
        if pool is None:
            if self.compressor is not None:
                return self.compressor
        else:
            try:
                return pool.pop()
            except IndexError:
                if pool is not self.pool:
                    level = SMALL_LEVEL
        if library is None:
            load()
        return new_compressor(level, DEFLATED, -self.outgoing_window_bits, self.memory_level)

    cdef int give_back(self, list pool, object compressor) except -1:
        if pool is None:
            self.compressor = compressor
        elif len(pool) < POOL_SIZE:
            pool.append(compressor)
        return 0

    cdef bytes deflate(self, const unsigned char *data, size_t size, bint forced):
        cdef list pool
        cdef bytes head, tail
        if self.outgoing_window_bits == 8:
            return None
        if size == 0:
            return EMPTY if forced and self.keeps_outgoing else None
        pool = None if self.keeps_outgoing else self.pool_for(size)
        compressor = self.take(pool)
        head = compressor.compress(PyMemoryView_FromMemory(<char *>data, size, PyBUF_READ))
        tail = compressor.flush(FULL_FLUSH if pool is not None else SYNC_FLUSH)
        self.give_back(pool, compressor)
        if head:
            tail = head + tail
        if pool is not None and PyBytes_GET_SIZE(tail) - FLUSHED >= <Py_ssize_t>size:
            return None
        return tail

    def compressed(self, payload):
        """Compress a message for every connection that has the same outgoing parameters.

        Args:
            payload: bytes-like.

        Returns:
            The payload of its frame; None when the message is to be sent as it is, because it does not get smaller.

        Raises:
            ValueError: with context takeover each connection compresses for itself.
        """
        cdef bytes data = bytes(memoryview(payload))
        cdef bytes whole
        if self.keeps_outgoing:
            raise ValueError("with context takeover a message is compressed for each connection: send it")
        whole = self.deflate(<const unsigned char *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), False)
        return None if whole is None else whole[:PyBytes_GET_SIZE(whole) - FLUSHED]

    cdef object begin(self):
        if self.outgoing_window_bits == 8:
            return None
        return self.take(self.pool)

    cdef bytes deflate_fragment(self, object compressor, const unsigned char *data, size_t size, bint fin):
        cdef bytes head, tail
        head = compressor.compress(PyMemoryView_FromMemory(<char *>data, size, PyBUF_READ)) if size else b""
        tail = compressor.flush(FULL_FLUSH if fin and self.pool is not None else SYNC_FLUSH)
        if fin:
            self.give_back(self.pool, compressor)
        # A compressor that was flushed has nothing to flush again.
        return head + tail if head or tail else (EMPTY if fin else b"")


cdef class Inflation:
    """The inflating of one message (RFC 7692 section 7.2.2).

    It holds the inflated bytes, and of the input no more than the decompressor does within one byte.

    Args:
        codec: the agreement.
        before: the end of the messages that it may refer to; None for nothing.
    """

    def __cinit__(self, PerMessageDeflate codec not None, bytes before=None):
        self.codec = codec
        self.before = before

    def __dealloc__(self):
        drop(self.output)

    cdef Inflated feed(self, const unsigned char *data, size_t size, bint last, uint64_t limit) except *:
        cdef bytes part
        cdef Inflated outcome
        if self.pending is not None:
            part = self.pending
            last = self.pending_ends
            self.pending = None
        elif last and size == 0 and self.taken == 0 and self.codec.keeps_incoming:
            # An empty message is the one byte of an empty block (RFC 7692 section 7.2.3.6). A compressor that keeps its
            # context does not make that block again right behind another one, so some peers send nothing.
            self.is_complete = True
            return INFLATED
        else:
            part = PyBytes_FromStringAndSize(NULL, size + (PyBytes_GET_SIZE(END) if last else 0))
            if size:    # `data` may be NULL
                memcpy(PyBytes_AS_STRING(part), data, size)
            if last:
                memcpy(PyBytes_AS_STRING(part) + size, PyBytes_AS_STRING(END), PyBytes_GET_SIZE(END))
            self.taken += size
        outcome = self.inflate(part, last, limit)
        if outcome == INFLATED_WRONGLY or self.pending is not None or not last:
            return outcome
        if not self.is_complete:
            return INFLATED_WRONGLY
        if self.codec.keeps_incoming:
            self.kept = self.window()
        return outcome

    cdef Inflated inflate(self, bytes data, bint last, uint64_t limit) except *:
        """Inflate all of `data`, which holds `END` at the end of the message."""
        cdef bytes piece
        cdef size_t room
        cdef uint64_t left
        while True:
            if self.size > limit:
                self.pending = data
                self.pending_ends = last
                return INFLATED_TOO_MUCH
            if self.stream is None:
                # A message may end with a block that has BFINAL set, without the byte of an empty block behind it that
                # RFC 7692 section 7.2.3.4 asks for: then nothing is missing either.
                if last and self.final_blocks and data == END:
                    self.is_complete = True
                    return INFLATED
                self.stream = self.new_stream()
            room = PIECE
            if limit - self.size < 4 * PIECE:
                room = <size_t>min(<uint64_t>(LAST_PIECE if self.size else PIECE), limit - self.size + 1)
            try:
                piece = self.stream.decompress(data, room)
            except ZLibError:
                return INFLATED_WRONGLY
            if piece:
                self.add(piece, limit)
            if self.stream.eof:
                # After a block with BFINAL set there may be more (RFC 7692 section 7.2.3.4).
                data = self.stream.unused_data
                self.stream = None
                self.final_blocks += 1
                left = PyBytes_GET_SIZE(data)
                if last:
                    left -= min(left, <uint64_t>PyBytes_GET_SIZE(END))
                if self.final_blocks > FINAL_BLOCKS + (self.taken - left) // BYTES_PER_FINAL_BLOCK:
                    return INFLATED_WRONGLY
                if not data:
                    self.is_complete = last
                    return INFLATED_TOO_MUCH if self.size > limit else INFLATED
            else:
                data = self.stream.unconsumed_tail
                if not data and <size_t>PyBytes_GET_SIZE(piece) < room:
                    return INFLATED

    cdef object new_stream(self):
        cdef bytes window
        # A window of 256 bytes is one of 512 that is half used: the library has none of 256.
        cdef int bits = -max(self.codec.incoming_window_bits, 9)
        if library is None:
            load()
        window = self.window() if self.final_blocks else self.before
        return new_decompressor(bits, window) if window else new_decompressor(bits)

    cdef bytes window(self):
        """Build the window of the next bytes: the end of the inflated bytes so far."""
        cdef size_t width = <size_t>1 << self.codec.incoming_window_bits
        cdef bytes before = (self.before if self.recent is None else self.recent) or b""
        cdef const unsigned char *place = self.inflated()
        cdef size_t old
        if self.size >= width:
            return (<char *>place + self.size - width)[:width]
        if self.size == 0:
            return before
        old = min(<size_t>PyBytes_GET_SIZE(before), width - self.size)
        cdef bytes both = PyBytes_FromStringAndSize(NULL, old + self.size)
        memcpy(PyBytes_AS_STRING(both), PyBytes_AS_STRING(before) + PyBytes_GET_SIZE(before) - old, old)
        memcpy(PyBytes_AS_STRING(both) + old, place, self.size)
        return both

    cdef int add(self, bytes piece, uint64_t limit) except -1:
        """Put a piece behind the output; the room for it never grows beyond the limit."""
        cdef size_t count = PyBytes_GET_SIZE(piece)
        cdef size_t capacity, wanted
        if self.size == 0:
            self.first = piece
            self.size = count
            return 0
        capacity = 0 if self.output is NULL else bytes_size(self.output)
        if self.size + count > capacity:
            wanted = max(capacity + capacity // 2, self.size + count, <size_t>(2 * PIECE))
            # The last of it is added piece by piece.
            wanted = max(self.size + count, <size_t>min(<uint64_t>wanted, limit - min(limit, <uint64_t>PIECE)))
            if self.output is NULL:
                self.output = new_bytes(NULL, wanted)
                if self.output is NULL:
                    raise MemoryError
                memcpy(bytes_data(self.output), PyBytes_AS_STRING(self.first), self.size)
                self.first = None
            elif resize_bytes(&self.output, wanted) < 0:
                self.size = 0
                raise MemoryError
        memcpy(bytes_data(self.output) + self.size, PyBytes_AS_STRING(piece), count)
        self.size += count
        return 0

    cdef const unsigned char *inflated(self) noexcept:
        """Where the output is; NULL while there is none."""
        if self.output is not NULL:
            return <unsigned char *>bytes_data(self.output)
        return NULL if self.first is None else <unsigned char *>PyBytes_AS_STRING(self.first)

    cdef bytes take_result(self):
        """Take all output; there is none left then."""
        cdef PyObject *output = self.output
        cdef bytes result
        if output is NULL:
            result = b"" if self.first is None else self.first
            self.first = None
            self.size = 0
            return result
        self.output = NULL
        if resize_bytes(&output, self.size) < 0:
            raise MemoryError
        self.size = 0
        result = <bytes>output
        drop(output)
        return result

    cdef bytes take_part(self):
        """Take the output so far; more of the message may come."""
        self.recent = self.window()
        return self.take_result()
