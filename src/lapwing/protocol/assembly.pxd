# One message put together from its parts.

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t


cdef extern from *:
    char *bytes_data "PyBytes_AS_STRING"(PyObject *bytes)
    Py_ssize_t bytes_size "PyBytes_GET_SIZE"(PyObject *bytes)


@cython.final
cdef class Assembly:
    cdef PyObject *bytes            # an object with room, owned and not shared; NULL while there is none
    cdef size_t size                # of the bytes so far
    cdef PyObject *lent             # an object that was dropped while it was lent, owned; NULL when there is none

    # Have room for `size` more bytes, and for the `declared` ones within reason. Runs no Python code.
    cdef int make_room(self, size_t size, uint64_t declared) except -1

    # Where the next bytes go.
    cdef inline unsigned char *end(self) noexcept:
        return <unsigned char *>bytes_data(self.bytes) + self.size

    # Bytes that fit in without more memory.
    cdef inline size_t room(self) noexcept:
        return <size_t>bytes_size(self.bytes) - self.size

    # Take the message, a new reference to an object with room behind `size`; NULL for nothing.
    cdef inline PyObject *take(self) noexcept:
        cdef PyObject *taken = self.bytes
        self.bytes = NULL
        self.size = 0
        return taken

    # The same as an object of the right size; None for nothing.
    cdef bytes take_bytes(self)

    # Let go of the message. A reader may be reading into it while it `is_lent`: then it goes with `end_loan`.
    cdef int drop(self, bint is_lent) noexcept

    # Learn that the reader has given it back.
    cdef int end_loan(self) noexcept


# Give an object that was taken its right size: a new reference, or NULL with an exception.
cdef PyObject *shrunk(PyObject *taken, size_t size) except NULL
