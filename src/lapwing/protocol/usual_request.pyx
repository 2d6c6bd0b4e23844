"""Opening handshakes as nearly all clients begin them, granted in one pass over the bytes.

It grants only requests that `server_handshake` and `http_reader` would grant with the same answer, and reports no
errors: every other request goes to them. A rule that is added to them is added here too; `test_usual_request` compares
the two.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memcpy

from .limits import MAX_HEAD

__all__ = ["UsualRequests"]


cdef extern from "usual_request.h" nogil:
    enum:
        HOST "LAPWING_HOST"
        KEY "LAPWING_KEY"
        ORIGIN "LAPWING_ORIGIN"
        PROTOCOL "LAPWING_PROTOCOL"
        EXTENSIONS "LAPWING_EXTENSIONS"
        USER_AGENT "LAPWING_USER_AGENT"
        UNUSUAL "LAPWING_UNUSUAL"
    ctypedef struct Text "lapwing_text":
        const char *data
        size_t size
    ctypedef struct Head "lapwing_head":
        size_t size
        Text *headers
    void fill_classes "lapwing_fill_classes"()
    bint take_request "lapwing_take_request"(const char *data, size_t size, size_t longest, size_t most, Head *head)
    bint asks_for_websocket "lapwing_asks_for_websocket"(const Head *head)
    bint next_element "lapwing_next_element"(Text *list, Text *element)
    bint is_token "lapwing_is_token"(Text text)
    bint equals "lapwing_equals"(Text text, const char *other, size_t size)
    bint is_own_origin "lapwing_is_own_origin"(Text origin, Text host)
    bint is_loopback "lapwing_is_loopback"(Text host)


cdef extern from "accept_key.h" nogil:
    enum:
        ACCEPT_SIZE "LAPWING_ACCEPT_SIZE"
    void accept_key "lapwing_accept_key"(const char *key, char *accept)


cdef enum:
    # Answers to offers of extensions that are kept, and the longest offer with one: browsers send three different ones.
    MOST_ANSWERS = 64
    LONGEST_OFFER = 256

cdef bytes BEFORE_KEY = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ")
cdef bytes PROTOCOL_LINE = b"\r\nSec-WebSocket-Protocol: "
cdef object MISSING = object()

fill_classes()


@cython.final
cdef class UsualRequests:
    """Grants usual requests for one server.

    Args:
        subprotocols: those on offer.
        default: whether a client without one of them is served.
        origins: the origins of pages that may connect besides the host's own, as browsers send them; None for all.
        loopback_only: whether a host of a page has to be this machine, unless its origin is among these.
        headers: whole lines that the response is to have besides.
        longest_line, most_headers: the limits of a head.
        answer: called with the value of Sec-WebSocket-Extensions and whether a browser sent it; returns the header
            lines of the response, and the extensions, for all such requests alike, or None where that cannot be.
    """

    def __init__(
        self, *, subprotocols, bint default, origins, bint loopback_only, bytes headers not None, size_t longest_line,
        size_t most_headers, answer
    ):
        self.subprotocols = {name.encode("ascii"): name for name in subprotocols}
        self.default = default
        self.origins = None if origins is None else frozenset([origin.encode("latin-1") for origin in origins])
        self.loopback_only = loopback_only
        self.last_lines = b"\r\n" + headers + b"\r\n"
        self.longest_line = longest_line
        self.most_headers = most_headers
        self.answer = answer
        self.answers = {}
        self.other_answers = {}

    cpdef tuple grant(self, bytes data):
        """Grant the request that begins what came from a client.

        Returns:
            Its head, the bytes behind it, the response, the subprotocol and the extensions; None where it is not whole,
            not usual, or not right.
        """
        cdef Head head
        cdef Text key
        if data is None:
            raise TypeError("expected bytes, got None")
        cdef const char *start = PyBytes_AS_STRING(data)
        if not take_request(start, len(data), self.longest_line, self.most_headers, &head):
            return None
        if head.size > <size_t>MAX_HEAD_SIZE or not asks_for_websocket(&head) or not welcomes(self, &head):
            return None
        subprotocol = choose_subprotocol(self, head.headers[PROTOCOL])
        if subprotocol is MISSING:
            return None
        answer = find_answer(self, &head)
        if answer is None:
            return None
        key = head.headers[KEY]
        return (
            data if head.size == <size_t>len(data) else PyBytes_FromStringAndSize(start, head.size),
            PyBytes_FromStringAndSize(start + head.size, len(data) - head.size),
            make_response(self, key.data, subprotocol, (<tuple>answer)[0]),
            subprotocol,
            (<tuple>answer)[1],
        )


cdef bint welcomes(UsualRequests usual, const Head *head) except -1:
    """Whether the page that connects, if it is one, may."""
    cdef Text origin = head.headers[ORIGIN]
    if usual.origins is None or origin.data == NULL:
        return True
    if is_own_origin(origin, head.headers[HOST]) and (not usual.loopback_only or is_loopback(head.headers[HOST])):
        return True
    return len(usual.origins) > 0 and origin.data[:origin.size] in usual.origins


cdef object choose_subprotocol(UsualRequests usual, Text asked):
    """The first subprotocol that is asked for and on offer, None without one; `MISSING` where one is needed."""
    cdef Text element
    cdef object chosen = None
    while next_element(&asked, &element):
        if element.size == 0:
            continue
        if not is_token(element):
            return MISSING
        if chosen is None and usual.subprotocols:
            chosen = usual.subprotocols.get(element.data[:element.size])
    return MISSING if chosen is None and not usual.default else chosen


cdef object find_answer(UsualRequests usual, const Head *head):
    """The answer to the offers of extensions: its text, and a list of the agreed extensions."""
    cdef Text offer = head.headers[EXTENSIONS], user_agent = head.headers[USER_AGENT]
    cdef bint is_browser
    cdef dict answers
    if offer.data == NULL:
        return b"", []
    if offer.size > LONGEST_OFFER:
        return None
    is_browser = user_agent.size >= 8 and equals(Text(user_agent.data, 8), b"Mozilla/", 8)
    answers = usual.answers if is_browser else usual.other_answers
    value = offer.data[:offer.size]
    answer = answers.get(value)
    if answer is None:
        answer = usual.answer(value.decode("latin-1"), is_browser)
        if answer is None:
            return None
        if len(answers) >= MOST_ANSWERS:
            answers.clear()
        answers[value] = answer
    return answer[0], list(answer[1])


cdef bytes make_response(UsualRequests usual, const char *key, str subprotocol, bytes answer):
    cdef bytes name = b"" if subprotocol is None else PROTOCOL_LINE + subprotocol.encode("ascii")
    cdef Py_ssize_t before = len(BEFORE_KEY)
    cdef Py_ssize_t size = before + ACCEPT_SIZE + len(name) + len(answer) + len(usual.last_lines)
    cdef bytes response = PyBytes_FromStringAndSize(NULL, size)
    cdef char *at = PyBytes_AS_STRING(response)
    memcpy(at, PyBytes_AS_STRING(BEFORE_KEY), before)
    accept_key(key, at + before)
    at += before + ACCEPT_SIZE
    for part in (name, answer, usual.last_lines):
        memcpy(at, PyBytes_AS_STRING(part), len(part))
        at += len(<bytes>part)
    return response


cdef Py_ssize_t MAX_HEAD_SIZE = MAX_HEAD
