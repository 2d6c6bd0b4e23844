"""Frames noted as they come and go, both ways, for whoever wants to log or show them.

They are only noted, in the midst of a step of the protocol: logging would let other threads in there.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint64_t

from .frame cimport mask_payload

__all__ = ["FrameNotes"]


cdef enum:
    # Payload bytes that are noted of a frame: all that a control frame may have (RFC 6455 section 5.5).
    LOGGED_PAYLOAD = 125


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
        frames = self.frame_log
        if not frames:
            return []
        self.frame_log = []
        return frames

    cdef int log_frame(
        self, bint is_sent, unsigned char first_byte, uint64_t size, const unsigned char *payload,
        const unsigned char *key
    ) except -1:
        """Note a frame. `payload` is NULL when it was skipped; `key` unless it is masked.
        """
        cdef size_t count = 0 if payload is NULL else min(size, <uint64_t>self.noted_payload)
        cdef bytes beginning = None
        if payload is not NULL or size == 0:
            # An object of its own to write into: one of a single byte that is copied is shared by the whole program.
            beginning = PyBytes_FromStringAndSize(<const char *>(payload if key is NULL else NULL), count)
            if key is not NULL:
                mask_payload(
                    <unsigned char *>PyBytes_AS_STRING(beginning), <const unsigned char *>payload, count, key, 0)
        return self.note_frame((is_sent, first_byte, size, beginning, -1))

    cdef int note_frame(self, tuple frame) except -1:
        cdef list log = self.frame_log
        if log is not None:
            log.append(frame)
        return 0

    cdef int note_original(self, const unsigned char *data, size_t size) except -1:
        """Note what the frame that was noted last is of, before it was compressed, or after it was inflated."""
        cdef list log = self.frame_log
        if log:
            is_sent, first_byte, length = log[len(log) - 1][:3]
            beginning = PyBytes_FromStringAndSize(<const char *>data, min(size, <size_t>self.noted_payload))
            log[len(log) - 1] = is_sent, first_byte, length, beginning, size
        return 0
