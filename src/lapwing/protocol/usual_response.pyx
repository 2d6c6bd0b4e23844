"""Responses that open a WebSocket as nearly all servers send them, checked in one pass over the bytes.

Usual responses are some of the right ones: `client_handshake` decides on all others, and describes their faults.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from .limits import MAX_HEAD

__all__ = ["UsualResponses"]


cdef extern from "usual_response.h" nogil:
    enum:
        PROTOCOL "LAPWING_PROTOCOL"
        EXTENSIONS "LAPWING_EXTENSIONS"
    ctypedef struct Text "lapwing_text":
        const char *data
        size_t size
    ctypedef struct Head "lapwing_head":
        size_t size
        Text *headers
    void fill_classes "lapwing_fill_classes"()
    bint take_response "lapwing_take_response"(const char *data, size_t size, size_t longest, size_t most, Head *head)
    bint answers "lapwing_answers"(const Head *head, const char *accept, size_t size)


cdef extern from "accept_key.h" nogil:
    enum:
        KEY_SIZE "LAPWING_KEY_SIZE"
        ACCEPT_SIZE "LAPWING_ACCEPT_SIZE"
    void accept_key "lapwing_accept_key"(const char *key, char *accept)


cdef enum:
    # Agreements on extensions that are kept, and the longest one: a server sends nearly always the same.
    MOST_AGREEMENTS = 16
    LONGEST_AGREEMENT = 256

cdef Py_ssize_t MAX_HEAD_SIZE = MAX_HEAD

fill_classes()


@cython.final
cdef class UsualResponses:
    """Accepts usual responses to one kind of request.

    Args:
        subprotocols: those that the request asks for.
        longest_line, most_headers: the limits of a head.
        agree: called with the value of Sec-WebSocket-Extensions; returns the extensions, for all connections with the
            same value alike, or None where that cannot be.
    """

    def __init__(self, *, subprotocols, size_t longest_line, size_t most_headers, agree):
        self.subprotocols = {name.encode("ascii"): name for name in subprotocols}
        self.longest_line = longest_line
        self.most_headers = most_headers
        self.agree = agree
        self.agreed = {}

    cpdef tuple accept(self, bytes data, bytes key):
        """Accept the response that begins what came from a server.

        Args:
            data: what came.
            key: the value of Sec-WebSocket-Key, of 24 bytes.

        Returns:
            Its head, the bytes behind it, the subprotocol and the extensions; None where it is not whole, not usual, or
            not right.
        """
        cdef Head head
        cdef char expected[ACCEPT_SIZE]
        cdef const char *start
        if data is None or key is None or len(key) != KEY_SIZE:
            raise TypeError("expected bytes, and a key of 24 bytes")
        start = PyBytes_AS_STRING(data)
        if not take_response(start, len(data), self.longest_line, self.most_headers, &head):
            return None
        accept_key(PyBytes_AS_STRING(key), expected)
        if head.size > <size_t>MAX_HEAD_SIZE or not answers(&head, expected, ACCEPT_SIZE):
            return None
        subprotocol = None
        if head.headers[PROTOCOL].data != NULL:
            subprotocol = self.subprotocols.get(head.headers[PROTOCOL].data[:head.headers[PROTOCOL].size])
            if subprotocol is None:
                return None
        extensions = find_extensions(self, head.headers[EXTENSIONS])
        if extensions is None:
            return None
        return (
            data if head.size == <size_t>len(data) else PyBytes_FromStringAndSize(start, head.size),
            PyBytes_FromStringAndSize(start + head.size, len(data) - head.size),
            subprotocol,
            extensions,
        )


cdef list find_extensions(UsualResponses usual, Text agreement):
    """The extensions that a server has agreed to, as a new list; None where each connection needs its own."""
    if agreement.data == NULL:
        return []
    if agreement.size > LONGEST_AGREEMENT:
        return None
    value = agreement.data[:agreement.size]
    extensions = usual.agreed.get(value)
    if extensions is None:
        extensions = usual.agree(value.decode("latin-1"))
        if extensions is None:
            return None
        if len(usual.agreed) >= MOST_AGREEMENTS:
            usual.agreed.clear()
        usual.agreed[value] = extensions
    return list(extensions)
