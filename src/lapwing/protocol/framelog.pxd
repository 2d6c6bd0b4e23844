# The frames that come and go, noted for a log.

cimport cython
from libc.stdint cimport uint64_t


@cython.final
cdef class FrameLog:
    cdef list notes
    cdef size_t limit               # how many bytes of a payload are noted

    # Note a frame. `payload` is NULL when it was skipped; `key` unless it is masked. Runs no Python code.
    cdef int note(
        self, bint is_sent, unsigned char first_byte, uint64_t size, const unsigned char *payload,
        const unsigned char *key) except -1

    # Note the data of the frame that was noted last, before they were compressed, or after they were inflated. Runs no
    # Python code.
    cdef int note_original(self, const unsigned char *data, size_t size) except -1
