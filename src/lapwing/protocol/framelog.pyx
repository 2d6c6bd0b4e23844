"""The frames that come and go, noted both ways for a log or a page.

The receiver and the sender of an endpoint show each frame to one `FrameLog`, if there is one. It only notes them: a
step of the protocol is under way, and logging would let other threads in. For the same reason a note is no object that
Python's collector tracks: to make one of these may run finalizers, which are Python code and may use the connection.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint64_t

from .frame cimport MAX_CONTROL_PAYLOAD, mask_payload

__all__ = ["FrameLog"]


@cython.final
cdef class FrameNote:
    """One frame."""

    cdef bint is_sent
    cdef unsigned char first_byte
    cdef uint64_t size
    cdef bytes beginning
    cdef int64_t original           # -1 unless `beginning` is that of the uncompressed data


cdef class FrameLog:
    """The frames that came and went since they were last taken.

    Args:
        payload: how many bytes of each payload are noted; by default all that a control frame may have (RFC 6455
            section 5.5).
    """

    def __init__(self, size_t payload=MAX_CONTROL_PAYLOAD):
        self.notes = []
        self.limit = payload

    def take(self):
        """Return the frames that came and went since the last call.

        Returns:
            A list of `(is_sent, first_byte, size, beginning, original)`: the first byte of the header (RFC 6455 section
            5.2: FIN, RSV1 to RSV3, opcode), the bytes of payload, and the first of them, unmasked; None when they were
            skipped, or inflated as they came. Where a compressed message is in one frame, `beginning` is that of
            the uncompressed data, and `original` their number of bytes; otherwise `original` is -1.
        """
        cdef list notes = self.notes
        cdef FrameNote note
        if not notes:
            return []
        self.notes = []
        return [(note.is_sent, note.first_byte, note.size, note.beginning, note.original) for note in notes]

    cdef int note(
        self, bint is_sent, unsigned char first_byte, uint64_t size, const unsigned char *payload,
        const unsigned char *key
    ) except -1:
        cdef FrameNote note = FrameNote.__new__(FrameNote)
        cdef size_t count = 0 if payload is NULL else min(size, <uint64_t>self.limit)
        note.is_sent = is_sent
        note.first_byte = first_byte
        note.size = size
        note.original = -1
        if payload is not NULL or size == 0:
            # An object of its own to write into: one of a single byte that is copied is shared by the whole program.
            note.beginning = PyBytes_FromStringAndSize(<const char *>(payload if key is NULL else NULL), count)
            if key is not NULL:
                mask_payload(
                    <unsigned char *>PyBytes_AS_STRING(note.beginning), <const unsigned char *>payload, count, key, 0)
        self.notes.append(note)
        return 0

    cdef int note_original(self, const unsigned char *data, size_t size) except -1:
        cdef list notes = self.notes
        cdef FrameNote note
        if notes:
            note = notes[len(notes) - 1]
            note.beginning = PyBytes_FromStringAndSize(<const char *>data, min(size, self.limit))
            note.original = size
        return 0
