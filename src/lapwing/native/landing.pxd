# Where bytes that are read are to go, so that they need not be moved again.


cdef struct Landing:
    size_t head             # so many go to the beginning of the reader's buffer: a header that is expected
    unsigned char *room     # the next go here; NULL when all go to the buffer
    size_t room_size        # so many of them; what is beyond goes to the buffer, behind the head
