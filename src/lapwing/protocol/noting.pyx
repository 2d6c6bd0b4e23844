"""Frames noted as they come and go, both ways, for whoever wants to log or show them.

They are only noted, in the midst of a step of the protocol: logging would let other threads in there. For the same
reason a note is no object that Python's collector tracks: making one of these may run finalizers, which are Python code
and may use the connection.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint64_t

from .frame cimport mask_payload

__all__ = ["FrameNotes"]


cdef enum:
    # Payload bytes that are noted of a frame: all that a control frame may have (RFC 6455 section 5.5).
    LOGGED_PAYLOAD = 125


@cython.final
cdef class FrameNote:
    """One frame."""

    cdef bint is_sent
    cdef unsigned char first_byte
    cdef uint64_t size
    cdef bytes beginning
    cdef int64_t original           # -1 unless `beginning` is that of what the frame was before, or after, compression


cdef class FrameNotes:
    """What frames came and went since somebody asked; see `Endpoint`, which is what to use."""

    def record_frames(self, Py_ssize_t payload=LOGGED_PAYLOAD):
        """Note from now on every frame that comes and goes, for `take_frames`.

        Args:
            payload: how many bytes of each payload; a negative number ends it.
        """
        if payload < 0:
            self.frame_log = None
            return
        self.noted_payload = payload
        if self.frame_log is None:
            self.frame_log = []

    def take_frames(self):
        """Return what frames came and went since the last call, if `record_frames` was called: for a log.

        Returns:
            A list of `(is_sent, first_byte, size, beginning, original)`: the first byte of the header (RFC 6455 section
            5.2: FIN, RSV1 to RSV3, opcode), the bytes of payload, and the first of them, unmasked; None when they were
            skipped, or inflated as they came. Where a compressed message is in one frame, `beginning` is that of what
            it was before, or after, and `original` the bytes of that; otherwise `original` is -1.
        """
        cdef list notes = self.frame_log
        cdef FrameNote note
        if not notes:
            return []
        self.frame_log = []
        return [(note.is_sent, note.first_byte, note.size, note.beginning, note.original) for note in notes]

    cdef int log_frame(
        self, bint is_sent, unsigned char first_byte, uint64_t size, const unsigned char *payload,
        const unsigned char *key
    ) except -1:
        """Note a frame. `payload` is NULL when it was skipped; `key` unless it is masked. Runs no Python code."""
        cdef FrameNote note = FrameNote.__new__(FrameNote)
        cdef size_t count = 0 if payload is NULL else min(size, <uint64_t>self.noted_payload)
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
        if self.frame_log is not None:
            self.frame_log.append(note)
        return 0

    cdef int note_original(self, const unsigned char *data, size_t size) except -1:
        """Note what the frame that was noted last is of, before it was compressed, or after it was inflated. Runs no
        Python code."""
        cdef list notes = self.frame_log
        cdef FrameNote note
        if notes:
            note = notes[len(notes) - 1]
            note.beginning = PyBytes_FromStringAndSize(<const char *>data, min(size, <size_t>self.noted_payload))
            note.original = size
        return 0
