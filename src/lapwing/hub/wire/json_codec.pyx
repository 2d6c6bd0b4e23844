"""The protocol as JSON text: messages of the table are objects, and several in one frame are separated by line feeds.

The data of applications is never decoded: it is cut out of the text, and put into another, as it is. So it must be one
line of valid JSON, which `json_text.check` makes sure of where data enters.

A `Reader` reads bytes that it holds and that do not change, whatever Python code may run between two calls. It has no
state behind the end of its call.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from json.decoder import scanstring
from json.encoder import encode_basestring
from libc.stdint cimport INT64_MAX, UINT64_MAX, uint64_t
from libc.string cimport memchr

from .json_text cimport json_number, json_space, json_string, json_value

from .json_text import MAX_DEPTH
from .messages import COMMANDS, PUSHES, REPLIES, Command, Error, Push, Reply

__all__ = ["JsonCodec"]

cdef enum:
    #: The numbers of `Kind`.
    TEXT = 1
    BOOL = 2
    UINT32 = 3
    INT64 = 6
    DATA = 7
    MESSAGE = 8
    MESSAGES = 9
    TEXTS = 10
    MESSAGE_MAP = 11
    #: How much deeper a reply may be nested than the data in it.
    AROUND_DATA = 8
    QUOTE = 34
    COMMA = 44
    BACKSLASH = 92

cdef dict commands_by_name = {name.encode(): (name, cls) for name, (_, cls) in COMMANDS.items()}
cdef dict replies_by_name = {name.encode(): (name, cls) for name, (_, cls) in REPLIES.items()}
cdef dict pushes_by_name = {name.encode(): (name, cls) for name, (_, cls) in PUSHES.items()}
cdef object write_string = encode_basestring
cdef object decode_escapes = scanstring

#: Makes a tuple of a class of its own; calling the class takes three times as long.
cdef object make = tuple.__new__


cdef class Reader:
    """Where the reading of a line stands.

    `at` and `end` are borrowed from the bytes of `line`.
    """

    cdef bytes line
    cdef const unsigned char *at
    cdef const unsigned char *end

    def __cinit__(self, bytes line not None):
        self.line = line
        self.at = <const unsigned char *>PyBytes_AS_STRING(line)
        self.end = self.at + PyBytes_GET_SIZE(line)

    cdef object refuse(self, what):
        cdef bytes rest = PyBytes_FromStringAndSize(<const char *>self.at, min(self.end - self.at, 40))
        return ValueError(f"expected {what}, got {rest!r}")

    cdef bint take(self, int byte) noexcept:
        """Go on behind a byte, if it is the next one but for white space."""
        self.at = json_space(self.at, self.end)
        if self.at < self.end and self.at[0] == byte:
            self.at += 1
            return True
        return False

    cdef bint take_null(self) noexcept:
        self.at = json_space(self.at, self.end)
        if self.at < self.end and self.at[0] == c'n' and json_value(self.at, self.end, 0) == self.at + 4:
            self.at += 4
            return True
        return False

    cdef int begin(self, int byte, int depth, what) except -1:
        if depth < 1 or not self.take(byte):
            raise self.refuse(what if depth >= 1 else f"no more than {MAX_DEPTH} levels of arrays and objects")
        return 0

    cdef bint goes_on(self, int closing, bint is_first) except -1:
        """Whether there is another member or value before the closing bracket, which is then taken."""
        if self.take(closing):
            return False
        if not is_first and not self.take(COMMA):
            raise self.refuse(f"',' or {chr(closing)!r}")
        return True

    cdef bytes name(self):
        """Take the name of a member, with its colon."""
        cdef const unsigned char *start = json_space(self.at, self.end)
        cdef const unsigned char *end = json_string(start, self.end)
        if end == NULL:
            raise self.refuse("the name of a member")
        self.at = end
        if not self.take(c':'):
            raise self.refuse("':'")
        if memchr(start, BACKSLASH, end - start) != NULL:
            return decoded(start, end).encode("utf-8", "surrogatepass")
        return PyBytes_FromStringAndSize(<const char *>start + 1, end - start - 2)

    cdef str text(self, what):
        cdef const unsigned char *start = json_space(self.at, self.end)
        cdef const unsigned char *end = json_string(start, self.end)
        if end == NULL:
            raise self.refuse(f"{what} to be a string")
        self.at = end
        return decoded(start, end)

    cdef bytes data(self, int depth, what):
        """Take a value as it is."""
        cdef const unsigned char *start = json_space(self.at, self.end)
        cdef const unsigned char *end = json_value(start, self.end, depth)
        if end == NULL:
            raise self.refuse(f"{what} to be JSON, nested at most {MAX_DEPTH} levels deep")
        self.at = end
        return PyBytes_FromStringAndSize(<const char *>start, end - start)

    cdef object whole(self, what, low, high):
        """Take a whole number."""
        cdef const unsigned char *start = json_space(self.at, self.end)
        cdef const unsigned char *end = json_number(start, self.end)
        cdef const unsigned char *digit = start
        cdef bint is_negative = False
        cdef uint64_t number = 0
        cdef uint64_t more
        if end != NULL and digit[0] == c'-':
            is_negative = True
            digit += 1
        while end != NULL and digit < end:
            more = digit[0] - <unsigned char>c'0'
            if more > 9 or number > (UINT64_MAX - more) // 10 or is_negative and number > INT64_MAX // 10:
                end = NULL
            else:
                number = number * 10 + more
                digit += 1
        value = -(<object>number) if is_negative else number
        if end == NULL or not low <= value <= high:
            raise self.refuse(f"{what} to be a whole number from {low} to {high}")
        self.at = end
        return value

    cdef bint truth(self, what) except -1:
        cdef const unsigned char *start = json_space(self.at, self.end)
        cdef const unsigned char *end = NULL
        if start < self.end and (start[0] == c't' or start[0] == c'f'):
            end = json_value(start, self.end, 0)
        if end == NULL:
            raise self.refuse(f"{what} to be true or false")
        self.at = end
        return start[0] == c't'

    cdef object message(self, cls, int depth):
        """Take a message; fields that the table does not have are left out, and null is none but as data."""
        cdef bint is_first = True
        cdef dict table = cls.BY_NAME
        cdef tuple field
        self.begin(c'{', depth, "an object")
        message = cls.__new__(cls)
        while self.goes_on(c'}', is_first):
            is_first = False
            name = self.name()
            field = <tuple?>table.get(name, ())
            if not field:
                self.data(depth - 1, name.decode("utf-8", "replace"))
            elif field[2] == DATA or not self.take_null():
                setattr(message, field[0], self.value(field, depth - 1))
        return message

    cdef object value(self, tuple field, int depth):
        cdef int kind = field[2]
        if kind == DATA:
            return self.data(depth, field[0])
        if kind == TEXT:
            return self.text(field[0])
        if kind == BOOL:
            return self.truth(field[0])
        if kind == MESSAGE:
            return self.message(field[3], depth)
        if kind == MESSAGES:
            return self.messages(field[3], depth)
        if kind == TEXTS or kind == MESSAGE_MAP:
            return self.mapping(field[3], field[0], depth)
        return self.whole(field[0], field[4], field[5])

    cdef list messages(self, of, int depth):
        cdef list found = []
        self.begin(c'[', depth, "an array")
        while self.goes_on(c']', not found):
            found.append(self.message(of, depth - 1))
        return found

    cdef dict mapping(self, of, name, int depth):
        cdef dict found = {}
        self.begin(c'{', depth, f"{name} to be an object")
        while self.goes_on(c'}', not found):
            key = self.name().decode("utf-8", "surrogatepass")
            found[key] = self.text(key) if of is None else self.message(of, depth - 1)
        return found

    cdef object envelope(self, dict table, int depth, bint is_reply, bint is_push):
        """Take a whole command, reply or push."""
        cdef bint is_first = True
        cdef tuple known
        number, found, message, error, channel, push = 0, "", None, None, "", None
        self.begin(c'{', depth, "an object")
        while self.goes_on(c'}', is_first):
            is_first = False
            name = self.name()
            known = table.get(name, ())
            if self.take_null():
                continue
            if known:
                found, message = known[0], self.message(known[1], depth - 1)
            elif name == b"id" and not is_push:
                number = self.whole("id", 0, 0xFFFFFFFF)
            elif name == b"channel" and is_push:
                channel = self.text("channel")
            elif name == b"error" and is_reply:
                error = self.message(Error, depth - 1)
            elif name == b"push" and is_reply:
                push = self.envelope(pushes_by_name, depth - 1, False, True)
            else:
                self.data(depth - 1, name.decode("utf-8", "replace"))
                if message is None:
                    found = name.decode("utf-8", "replace")
        if is_push:
            return make(Push, (found or "unknown", message, channel))
        if not is_reply:
            return make(Command, (number, found, message))
        if not number:
            return Push() if push is None else push
        return make(Reply, (number, found if error is None else "", message if error is None else None, error))

    cdef int finish(self) except -1:
        self.at = json_space(self.at, self.end)
        if self.at != self.end:
            raise self.refuse("a line feed or the end of the frame")
        return 0


cdef str decoded(const unsigned char *start, const unsigned char *end):
    """The string between two quotes, which is valid."""
    if memchr(start, BACKSLASH, end - start) == NULL:
        return PyUnicode_DecodeUTF8(<const char *>start + 1, end - start - 2, NULL)
    return decode_escapes(PyUnicode_DecodeUTF8(<const char *>start, end - start, NULL), 1, True)[0]


def read_lines(bytes frame not None, bint is_reply):
    """Give the commands, or the replies and pushes, of a frame, one after the other; blank lines are none."""
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t end
    cdef Reader reader
    while start < len(frame):
        end = frame.find(b"\n", start)
        if end < 0:
            end = len(frame)
        line = frame if start == 0 and end == len(frame) else frame[start:end]
        start = end + 1
        reader = Reader(line)
        reader.at = json_space(reader.at, reader.end)
        if reader.at == reader.end:
            continue
        if is_reply:
            found = reader.envelope(replies_by_name, MAX_DEPTH + AROUND_DATA, True, False)
        else:
            found = reader.envelope(commands_by_name, MAX_DEPTH, False, False)
        reader.finish()
        yield found


# --- writing -----------------------------------------------------------------------------------------------------


cdef bytes quoted(str value):
    return (<str>write_string(value)).encode()


cdef bytes written(message):
    """Write a message; fields with their default value are left out. One that is written already is returned."""
    cdef list parts = []
    cdef tuple field
    if type(message) is bytes:
        return message
    for field in <tuple?>message.ROWS:
        value = getattr(message, field[0])
        if value:
            parts.append(field[6])
            parts.append(written_value(field[2], value))
            parts.append(b",")
    if not parts:
        return b"{}"
    parts[len(parts) - 1] = b"}"
    return b"{" + b"".join(parts)


cdef bytes written_value(int kind, value):
    if kind == DATA:
        return value
    if kind == TEXT:
        return quoted(value)
    if kind == BOOL:
        return b"true"
    if kind == MESSAGE:
        return written(value)
    if kind == MESSAGES:
        return b"[%b]" % b",".join([written(each) for each in value])
    if kind == TEXTS:
        return b"{%b}" % b",".join([b"%b:%b" % (quoted(key), quoted(each)) for key, each in value.items()])
    if kind == MESSAGE_MAP:
        return b"{%b}" % b",".join([b"%b:%b" % (quoted(key), written(each)) for key, each in value.items()])
    return str(value).encode()


cdef bytes enveloped(number, str name, bytes message):
    """Put a message under its name, and the number of its command before it where there is one."""
    if number:
        return b"".join((b'{"id":', str(number).encode(), b',"', name.encode(), b'":', message, b"}"))
    return b"".join((b'{"', name.encode(), b'":', message, b"}"))


class JsonCodec:
    """The codec of clients that ask for no subprotocol, or for `centrifuge-json`.

    Attributes:
        name: the name of frames that are kept.
        subprotocol: the subprotocol that a client may ask for.
        is_text: whether its frames are TEXT, RFC 6455 section 5.6.
    """

    name = "json"
    subprotocol = "centrifuge-json"
    is_text = True

    @staticmethod
    def commands(bytes frame not None):
        """Read the commands of a frame, one after the other.

        Raises:
            ValueError: the next one is none. Those before it were given.
        """
        return read_lines(frame, False)

    @staticmethod
    def replies(bytes frame not None):
        """Read the replies and pushes of a frame, one after the other.

        Raises:
            ValueError: the next one is none. Those before it were given.
        """
        return read_lines(frame, True)

    @staticmethod
    def command(command):
        """Write a command, or the answer to a ping."""
        number, method, request = command
        if not method:
            return b"{}"
        return enveloped(number, method, written(request))

    @staticmethod
    def reply(reply):
        """Write a reply."""
        number, method, result, error = reply
        if error is not None:
            return enveloped(number, "error", written(error))
        return enveloped(number, method, written(result))

    @staticmethod
    def push(push):
        """Write a push, or a ping."""
        kind, event, channel = push
        if not kind:
            return b"{}"
        if not channel:
            return b'{"push":{"%b":%b}}' % ((<str>kind).encode(), written(event))
        return b'{"push":{"channel":%b,"%b":%b}}' % (quoted(channel), (<str>kind).encode(), written(event))

    @staticmethod
    def written(message not None):
        """Write a message alone, which may stand in its place in others."""
        return written(message)

    @staticmethod
    def joined(parts):
        """Make one frame of several commands, or of several replies and pushes."""
        return b"\n".join(parts)
