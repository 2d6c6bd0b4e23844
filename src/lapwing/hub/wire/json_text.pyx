"""JSON text checked without being decoded.

The pointers are into `bytes` that an argument holds and that do not change, whatever Python code may run between two
uses of them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr

__all__ = ["MAX_DEPTH", "check"]

#: Levels of arrays and objects that a value may have: its readers may read it by recursion.
MAX_DEPTH = 64


def check(bytes data not None, int depth=MAX_DEPTH):
    """Check that bytes are one JSON value (RFC 8259), and make one line of it.

    Args:
        data: the text, in UTF-8.
        depth: how many levels of arrays and objects it may have, at most 128.

    Returns:
        The text without white space around it; where it has more than one line, without any between its tokens.

    Raises:
        ValueError: it is no JSON, not UTF-8, or nested deeper.
    """
    cdef const unsigned char *start = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef const unsigned char *end = start + PyBytes_GET_SIZE(data)
    cdef const unsigned char *first = json_space(start, end)
    cdef const unsigned char *last = json_value(first, end, depth)
    cdef bytes line
    if last == NULL or json_space(last, end) != end:
        raise ValueError(
            f"expected one JSON value in valid UTF-8, nested at most {depth} levels deep, got {len(data)} bytes that "
            f"begin with {data[:40]!r}"
        )
    if memchr(first, 10, last - first) == NULL:
        return data if last - first == end - start else PyBytes_FromStringAndSize(<const char *>first, last - first)
    line = PyBytes_FromStringAndSize(NULL, last - first)
    cdef size_t size = json_compact(first, last - first, <unsigned char *>PyBytes_AS_STRING(line))
    return line[:size]
