# Frames noted as they come and go.

from libc.stdint cimport uint64_t


cdef class FrameNotes:
    cdef list frame_log                 # what frames came and went; None unless somebody wants to know
    cdef Py_ssize_t noted_payload       # how many bytes of their payloads

    cdef int log_frame(
        self, bint is_sent, unsigned char first_byte, uint64_t size, const unsigned char *payload,
        const unsigned char *key) except -1
    cdef int note_original(self, const unsigned char *data, size_t size) except -1
