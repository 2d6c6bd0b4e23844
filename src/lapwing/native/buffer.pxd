# A queue of bytes that owns memory only while it holds some.


cdef extern from "buffer.h" nogil:
    ctypedef struct Buffer "lapwing_buffer":
        unsigned char *data
        size_t start
        size_t end
        size_t capacity
    size_t buffer_size "lapwing_buffer_size"(const Buffer *buffer)
    void buffer_free "lapwing_buffer_free"(Buffer *buffer)

    # Make room for `size` more bytes and return where they go, to be counted in `end`; NULL when there is no memory.
    unsigned char *buffer_reserve "lapwing_buffer_reserve"(Buffer *buffer, size_t size)

    # -1 when there is no memory.
    int buffer_append "lapwing_buffer_append"(Buffer *buffer, const void *bytes, size_t size)
    void buffer_consume "lapwing_buffer_consume"(Buffer *buffer, size_t size)
