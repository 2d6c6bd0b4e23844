# UTF-8 checked as it comes: the state after so many more bytes.

cdef extern from "utf8.h" nogil:
    enum:
        UTF8_ACCEPT
        UTF8_REJECT
    bint is_ascii "lapwing_is_ascii"(const unsigned char *bytes, size_t size)
    unsigned char utf8_check "lapwing_utf8_check"(unsigned char state, const unsigned char *bytes, size_t size)
