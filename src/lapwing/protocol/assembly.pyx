"""One message put together: the `bytes` object that the application will get, with room at its end.

Memory follows the bytes that come, not the length that a peer declares. While a thread reads from the network right
into the object it is lent: a message that is dropped in that time leaves the object to the loan.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from .limits cimport EAGER_MEMORY, LARGE_MESSAGE

__all__ = ["Assembly"]


cdef extern from *:
    """
    #include <stdlib.h>

    /* When a large block at the end of the heap is freed, glibc gives it back to the system, and takes it again for the
     * next message: a page fault for every 4 KiB, which for 1 MiB costs more than all else here. It stops doing so
     * for sizes that it has seen freed. So it is shown one, once; a process keeps up to twice as much free for that. */
    static void lapwing_keep_freed_memory(void)
    {
        enum { SHOWN = 16 * 1024 * 1024 };
        static int is_done;
        if (!__atomic_exchange_n(&is_done, 1, __ATOMIC_RELAXED)) {
            void *volatile block = malloc(SHOWN);
            free(block);
        }
    }
    """
    void keep_freed_memory "lapwing_keep_freed_memory"()
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *bytes, Py_ssize_t size)
    int resize_bytes "_PyBytes_Resize"(PyObject **bytes, Py_ssize_t size)
    void drop_reference "Py_XDECREF"(PyObject *object)


cdef class Assembly:
    """A message of which not all has come."""

    def __dealloc__(self):
        drop_reference(self.bytes)
        drop_reference(self.lent)

    @property
    def capacity(self):
        """Bytes of memory that the message has by now."""
        return 0 if self.bytes is NULL else bytes_size(self.bytes)

    def add(self, bytes data not None, uint64_t declared=0):
        """Put bytes behind those that came; `declared` ones are to come in all, these included."""
        cdef size_t size = len(data)
        self.make_room(size, max(declared, <uint64_t>size))
        memcpy(self.end(), PyBytes_AS_STRING(data), size)
        self.size += size

    def finish(self):
        """Return the message, and begin the next one."""
        return self.take_bytes() or b""

    cdef int make_room(self, size_t size, uint64_t declared) except -1:
        cdef size_t capacity = 0 if self.bytes is NULL else bytes_size(self.bytes)
        cdef size_t wanted
        if self.bytes is not NULL and self.size + size <= capacity:
            return 0
        wanted = min(self.size + declared, max(<size_t>EAGER_MEMORY, 2 * capacity))
        # Half as much again, so that a message of many small fragments is not moved for each; 64 bytes, so that the
        # object is never one of the shared ones of 0 or 1 byte, which must not be resized.
        wanted = max(wanted, self.size + size, capacity + capacity // 2, <size_t>64)
        if wanted >= LARGE_MESSAGE:
            keep_freed_memory()
        if self.bytes is NULL:
            self.bytes = new_bytes(NULL, wanted)
            if self.bytes is NULL:
                raise MemoryError
        elif resize_bytes(&self.bytes, wanted) < 0:
            self.size = 0
            raise MemoryError
        return 0

    cdef bytes take_bytes(self):
        cdef size_t size = self.size
        cdef PyObject *taken = self.take()
        cdef bytes result
        if taken is NULL:
            return None
        taken = shrunk(taken, size)
        result = <bytes>taken
        drop_reference(taken)
        return result

    cdef int drop(self, bint is_lent) noexcept:
        if is_lent and self.lent is NULL:
            self.lent = self.bytes
        else:
            drop_reference(self.bytes)
        self.bytes = NULL
        self.size = 0
        return 0

    cdef int end_loan(self) noexcept:
        drop_reference(self.lent)
        self.lent = NULL
        return 0


cdef PyObject *shrunk(PyObject *taken, size_t size) except NULL:
    if resize_bytes(&taken, size) < 0:
        raise MemoryError
    return taken
