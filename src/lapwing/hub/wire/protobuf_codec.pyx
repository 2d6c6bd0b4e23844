"""The protocol as protobuf: each message of a frame behind its length, a varint (protobuf's own "delimited" form).

It is written by hand over the one table of messages: no code is generated, and no library for protobuf is needed.

A `Reader` reads bytes that it holds and that do not change, whatever Python code may run between two calls.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from .messages import COMMANDS, PUSHES, REPLIES, Command, Error, Push, Reply

__all__ = ["ProtobufCodec"]

cdef enum:
    #: The numbers of `Kind`.
    TEXT = 1
    BOOL = 2
    UINT32 = 3
    UINT64 = 4
    INT32 = 5
    INT64 = 6
    DATA = 7
    MESSAGE = 8
    MESSAGES = 9
    TEXTS = 10
    MESSAGE_MAP = 11
    #: The wire types, the last three bits of a tag.
    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    FIXED32 = 5
    #: The highest number that a field may have.
    LAST_FIELD = (1 << 29) - 1

cdef dict commands_by_number = {number: (name, cls) for name, (number, cls) in COMMANDS.items()}
cdef dict replies_by_number = {number: (name, cls) for name, (number, cls) in REPLIES.items()}
cdef dict pushes_by_number = {number: (name, cls) for name, (number, cls) in PUSHES.items()}

#: Makes a tuple of a class of its own; calling the class takes three times as long.
cdef object make = tuple.__new__


cdef class Reader:
    """Where the reading of a frame stands.

    `at` and `end` are borrowed from the bytes of `frame`; a message within it is read up to an end of its own.
    """

    cdef bytes frame
    cdef const unsigned char *at
    cdef const unsigned char *end

    def __cinit__(self, bytes frame not None):
        self.frame = frame
        self.at = <const unsigned char *>PyBytes_AS_STRING(frame)
        self.end = self.at + PyBytes_GET_SIZE(frame)

    cdef uint64_t varint(self, const unsigned char *end) except? 0:
        """Take a varint, of at most ten bytes."""
        cdef uint64_t found = 0
        cdef int shift = 0
        cdef unsigned char byte
        while self.at < end and shift < 70:
            byte = self.at[0]
            self.at += 1
            if shift < 64:
                found |= <uint64_t>(byte & 0x7F) << shift
            if byte < 0x80:
                return found
            shift += 7
        raise ValueError(f"expected a varint of at most ten bytes, got {'its beginning' if shift < 70 else 'more'}")

    cdef const unsigned char *sized(self, const unsigned char *end) except NULL:
        """Take a length; returns where what follows it ends."""
        cdef uint64_t size = self.varint(end)
        if size > <uint64_t>(end - self.at):
            raise ValueError(f"expected {size} bytes, got {end - self.at}")
        return self.at + size

    cdef bytes data(self, const unsigned char *end):
        """Take the bytes behind their length."""
        cdef const unsigned char *last = self.sized(end)
        found = PyBytes_FromStringAndSize(<const char *>self.at, last - self.at)
        self.at = last
        return found

    cdef str text(self, const unsigned char *end):
        """Take the text behind its length."""
        cdef const unsigned char *last = self.sized(end)
        found = PyUnicode_DecodeUTF8(<const char *>self.at, last - self.at, NULL)
        self.at = last
        return found

    cdef uint64_t tag(self, const unsigned char *end) except 0:
        cdef uint64_t tag = self.varint(end)
        if not 0 < tag >> 3 <= LAST_FIELD:
            raise ValueError(f"expected the number of a field, got {tag >> 3}")
        return tag

    cdef int expect(self, uint64_t tag, int kind, what) except -1:
        if <int>(tag & 7) != kind:
            raise ValueError(f"expected {what} to have the wire type {kind}, got {tag & 7}")
        return 0

    cdef int skip(self, uint64_t tag, const unsigned char *end) except -1:
        """Leave a field out."""
        cdef int kind = tag & 7
        if kind == VARINT:
            self.varint(end)
        elif kind == BYTES:
            self.at = self.sized(end)
        elif kind == FIXED64 or kind == FIXED32:
            size = 8 if kind == FIXED64 else 4
            if end - self.at < size:
                raise ValueError(f"expected {size} bytes, got {end - self.at}")
            self.at += size
        else:
            raise ValueError(f"expected a number or bytes, got the wire type {kind}")
        return 0

    cdef object message(self, cls, const unsigned char *end):
        """Take the fields of a message up to its end; those that the table does not have are left out."""
        cdef dict table = cls.BY_NUMBER
        cdef uint64_t tag
        cdef tuple field
        message = cls.__new__(cls)
        while self.at < end:
            tag = self.tag(end)
            field = <tuple?>table.get(tag >> 3, ())
            if field:
                self.field(message, field, tag, end)
            else:
                self.skip(tag, end)
        return message

    cdef int field(self, message, tuple field, uint64_t tag, const unsigned char *end) except -1:
        cdef int kind = field[2]
        name = field[0]
        self.expect(tag, VARINT if BOOL <= kind <= INT64 else BYTES, name)
        if kind == DATA:
            setattr(message, name, self.data(end))
        elif kind == TEXT:
            setattr(message, name, self.text(end))
        elif kind == MESSAGE:
            setattr(message, name, self.message(field[3], self.sized(end)))
        elif kind == MESSAGES:
            value = self.message(field[3], self.sized(end))
            self.of(message, name, list).append(value)
        elif kind == TEXTS or kind == MESSAGE_MAP:
            self.entry(self.of(message, name, dict), field[3], self.sized(end))
        else:
            setattr(message, name, number_of(kind, self.varint(end)))
        return 0

    cdef object of(self, message, name, kind):
        """The list or dict of a repeated field."""
        found = getattr(message, name)
        if not isinstance(found, kind):
            found = kind()
            setattr(message, name, found)
        return found

    cdef int entry(self, dict into, of, const unsigned char *end) except -1:
        """Take an entry of a map: a message of its key and its value."""
        cdef uint64_t tag
        key, value = "", None
        while self.at < end:
            tag = self.tag(end)
            if tag >> 3 == 1:
                self.expect(tag, BYTES, "a key")
                key = self.text(end)
            elif tag >> 3 == 2:
                self.expect(tag, BYTES, "a value")
                value = self.text(end) if of is None else self.message(of, self.sized(end))
            else:
                self.skip(tag, end)
        if value is None:
            value = "" if of is None else of()
        into[key] = value
        return 0

    cdef object envelope(self, dict table, const unsigned char *end, bint is_reply, bint is_push):
        """Take a whole command, reply or push."""
        cdef uint64_t tag, field
        cdef uint32_t number = 0
        cdef tuple known
        found, message, error, channel, push = "", None, None, "", None
        while self.at < end:
            tag = self.tag(end)
            field = tag >> 3
            known = table.get(field, ())
            if known:
                self.expect(tag, BYTES, known[0])
                found, message = known[0], self.message(known[1], self.sized(end))
            elif field == 1 and not is_push:
                self.expect(tag, VARINT, "id")
                number = <uint32_t>self.varint(end)
            elif field == 2 and is_push:
                self.expect(tag, BYTES, "channel")
                channel = self.text(end)
            elif field == 2 and is_reply:
                self.expect(tag, BYTES, "error")
                error = self.message(Error, self.sized(end))
            elif field == 4 and is_reply:
                self.expect(tag, BYTES, "push")
                push = self.envelope(pushes_by_number, self.sized(end), False, True)
            else:
                self.skip(tag, end)
                if message is None:
                    found = f"field {field}"
        if is_push:
            return make(Push, (found or "unknown", message, channel))
        if not is_reply:
            return make(Command, (number, found, message))
        if not number:
            return Push() if push is None else push
        return make(Reply, (number, found if error is None else "", message if error is None else None, error))


cdef object number_of(int kind, uint64_t value):
    if kind == BOOL:
        return value != 0
    if kind == UINT32:
        return <uint32_t>value
    if kind == INT32:
        return <int32_t><uint32_t>value
    if kind == INT64:
        return <int64_t>value
    return value


def read_delimited(bytes frame not None, bint is_reply):
    """Give the commands, or the replies and pushes, of a frame, one after the other."""
    cdef Reader reader = Reader(frame)
    table = replies_by_number if is_reply else commands_by_number
    while reader.at < reader.end:
        yield reader.envelope(table, reader.sized(reader.end), is_reply, False)


# --- writing -----------------------------------------------------------------------------------------------------


cdef bytes varint(uint64_t value):
    cdef unsigned char digits[10]
    cdef int size = 0
    while value >= 0x80:
        digits[size] = <unsigned char>(value & 0x7F | 0x80)
        value >>= 7
        size += 1
    digits[size] = <unsigned char>value
    return PyBytes_FromStringAndSize(<const char *>digits, size + 1)


cdef bytes sized(bytes message):
    return varint(len(message)) + message


cdef bytes bytes_field(uint64_t number, bytes data):
    return varint(number << 3 | BYTES) + varint(len(data)) + data


cdef bytes number_field(uint64_t number, value):
    cdef uint64_t bits = <uint64_t><int64_t>value if value < 0 else <uint64_t>value
    return varint(number << 3 | VARINT) + varint(bits)


cdef bytes entry_field(uint64_t number, str key, bytes value):
    return bytes_field(number, bytes_field(1, key.encode()) + bytes_field(2, value))


cdef bytes written(message):
    """Write a message; fields with their default value are left out. One that is written already is returned."""
    cdef list parts = []
    cdef tuple field
    if type(message) is bytes:
        return message
    for field in <tuple?>message.ROWS:
        value = getattr(message, field[0])
        if value:
            parts.append(written_field(field[1], field[2], value))
    return b"".join(parts)


cdef bytes written_field(uint64_t number, int kind, value):
    if kind == DATA:
        return bytes_field(number, value)
    if kind == TEXT:
        return bytes_field(number, (<str>value).encode())
    if kind == MESSAGE:
        return bytes_field(number, written(value))
    if kind == MESSAGES:
        return b"".join([bytes_field(number, written(each)) for each in value])
    if kind == TEXTS:
        return b"".join([entry_field(number, key, (<str>each).encode()) for key, each in value.items()])
    if kind == MESSAGE_MAP:
        return b"".join([entry_field(number, key, written(each)) for key, each in value.items()])
    return number_field(number, value)


class ProtobufCodec:
    """The codec of clients that ask for the subprotocol `centrifuge-protobuf`.

    Attributes:
        name: the name of frames that are kept.
        subprotocol: the subprotocol that a client asks for.
        is_text: whether its frames are TEXT, RFC 6455 section 5.6.
    """

    name = "protobuf"
    subprotocol = "centrifuge-protobuf"
    is_text = False

    @staticmethod
    def commands(bytes frame not None):
        """Read the commands of a frame, one after the other.

        Raises:
            ValueError: the next one is none. Those before it were given.
        """
        return read_delimited(frame, False)

    @staticmethod
    def replies(bytes frame not None):
        """Read the replies and pushes of a frame, one after the other.

        Raises:
            ValueError: the next one is none. Those before it were given.
        """
        return read_delimited(frame, True)

    @staticmethod
    def command(command):
        """Write a command, or the answer to a ping."""
        number, method, request = command
        if not method:
            return b"\x00"
        beginning = number_field(1, number) if number else b""
        return sized(beginning + bytes_field(COMMANDS[method][0], written(request)))

    @staticmethod
    def reply(reply):
        """Write a reply."""
        number, method, result, error = reply
        if error is not None:
            return sized(number_field(1, number) + bytes_field(2, written(error)))
        return sized(number_field(1, number) + bytes_field(REPLIES[method][0], written(result)))

    @staticmethod
    def push(push):
        """Write a push, or a ping."""
        kind, event, channel = push
        if not kind:
            return b"\x00"
        beginning = bytes_field(2, (<str>channel).encode()) if channel else b""
        return sized(bytes_field(4, beginning + bytes_field(PUSHES[kind][0], written(event))))

    @staticmethod
    def written(message not None):
        """Write a message alone, which may stand in its place in others."""
        return written(message)

    @staticmethod
    def joined(parts):
        """Make one frame of several commands, or of several replies and pushes."""
        return b"".join(parts)
