"""From messages to the peer's bytes (RFC 6455 sections 5 and 6.1).

A message becomes a frame, or one for each of its fragments, behind the unsent output; the owner of the connection
takes the output and sends it. A message is masked or copied into the output, except a large one of a server: that is
sent from where it is.

Much runs Python code that may use this same sender, or lets other threads run that may: the `__buffer__` of a message,
compressing, fetching random bytes for masks, and, since finalizers run then, making any object that Python's collector
tracks. So all of that comes first; then `may_send` or a look at the state; and from there until the frame is in the
output nothing of the kind happens. No pointer into the output is kept across it.

The sender knows whether messages may go out (`Sendable`) and not why: the endpoint tells it, and explains a refusal.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer
from cpython.unicode cimport PyUnicode_AsUTF8String, PyUnicode_CheckExact
from libc.string cimport memcpy

from ..native.buffer cimport Buffer, buffer_size
from .compression cimport FLUSHED, PerMessageDeflate
from .frame cimport (
    BINARY_FRAME, COMPRESSED, CONTINUATION_FRAME, MAX_HEADER_SIZE, PONG_FRAME, TEXT_FRAME, FrameHeader, MaskingKeys,
    keys_for_endpoint, mask_payload, read_header, write_header,
)
from .limits cimport LARGE_PAYLOAD, MAX_WAITING_PONGS, POSTPONED_OVERHEAD
from .prepared cimport Prepared
from .utf8 cimport UTF8_ACCEPT, UTF8_REJECT, utf8_check

__all__ = ["Sender"]


cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL


cdef enum:
    # The opcode of a message whose type says it: TEXT for `str`, BINARY for bytes-like.
    NATURAL = -1


@cython.freelist(32)
cdef class Sender:
    """The sending part of an endpoint.

    Args:
        is_client: whether this end is the client, which masks its frames (RFC 6455 section 5.3).
        random_bytes: source of masking keys, cryptographic; None for the operating system's, shared by the process.
    """

    def __init__(self, bint is_client, random_bytes=None):
        self.is_client = is_client
        self.keys = keys_for_endpoint() if random_bytes is None else MaskingKeys(random_bytes)

    def __dealloc__(self):
        output_clear(&self.output)

    # --- messages ----------------------------------------------------------------------------------------------------

    def send(self, message, opcode=None, *, compress=None):
        """Queue a message as one frame, see `Endpoint.send`.

        Returns:
            Whether it was queued: False when no message may go out any more.
        """
        return self.push_message(message, opcode, compress)

    cdef bint push_message(self, object message, object asked, object compress) except -1:
        cdef int opcode = NATURAL if asked is None else data_opcode(asked)
        cdef Py_ssize_t size
        cdef const unsigned char *data
        cdef Py_buffer view
        if compress is not None:
            require_choice(compress)
        self.prepare()
        if (self.sendable != EVERY_FRAME or self.opcode) and not self.may_send():
            return False
        if isinstance(message, str):
            data = <const unsigned char *>PyUnicode_AsUTF8AndSize(message, &size)
            return push_whole(self, TEXT_FRAME if opcode == NATURAL else opcode, data, size, compress, message)
        opcode = BINARY_FRAME if opcode == NATURAL else opcode
        if isinstance(message, bytes):
            data = <const unsigned char *>PyBytes_AS_STRING(message)
            size = PyBytes_GET_SIZE(message)
            if opcode == TEXT_FRAME:
                require_utf8(data, size)
            return push_whole(self, opcode, data, size, compress, message)
        # The bytes of any other object are copied: they may change once this returns.
        require_buffer(message)
        PyObject_GetBuffer(message, &view, PyBUF_SIMPLE)    # may run Python code
        try:
            if opcode == TEXT_FRAME:
                require_utf8(<const unsigned char *>view.buf, view.len)
            self.prepare()
            if not self.may_send():
                return False
            return push_whole(self, opcode, <const unsigned char *>view.buf, view.len, compress, None)
        finally:
            PyBuffer_Release(&view)

    cdef bint may_send(self) except -1:
        """Whether a message may go out now; not between the fragments of another one."""
        if self.sendable != EVERY_FRAME:
            return False
        if self.opcode:
            raise RuntimeError("a message of fragments is under way: end it with send_fragment(..., fin=True) first")
        return True

    cdef bint push_deflated(
        self, int opcode, const unsigned char *data, size_t size, bint forced, object owner
    ) except -1:
        """Compress a message and queue it (RFC 7692 section 7.2.1).

        With context takeover the two are one step: no other message is compressed in between, and when the second does
        not happen, the compressor starts again.
        """
        cdef PerMessageDeflate codec = self.codec
        cdef bytes payload
        if codec.keeps_outgoing:
            if codec.is_held_here():    # called within the compressing of another message, which cannot be waited for
                return self.push_data(0x80 | opcode, data, size, owner)
            codec.acquire()
        try:
            payload = codec.deflate(data, size, forced)
            # Other threads have run.
            self.prepare()
            if not self.may_send():
                codec.forget()
                return False
            if payload is None:
                return self.push_data(0x80 | opcode, data, size, owner)
            self.push_frame(
                0x80 | COMPRESSED | opcode, <const unsigned char *>PyBytes_AS_STRING(payload),
                PyBytes_GET_SIZE(payload) - FLUSHED, payload)
            if self.log is not None:
                self.log.note_original(data, size)
            self.sent_messages += 1
            self.sent_payload += size
            return True
        except BaseException:
            codec.forget()
            raise
        finally:
            if codec.keeps_outgoing:
                codec.release()

    # --- fragments, and what waits for their end ---------------------------------------------------------------------

    def send_fragment(self, payload, *, bint fin, opcode=None, compress=None):
        """Queue one fragment of a message, see `Endpoint.send_fragment`.

        Returns:
            Whether it was queued: False when no message may go out any more.
        """
        return self.push_fragment(payload, fin, opcode, compress)

    cdef bint push_fragment(self, object payload, bint fin, object opcode, object compress) except -1:
        cdef int asked = NATURAL
        cdef Py_buffer view
        cdef bint is_text = isinstance(payload, str)
        if compress is not None:
            require_choice(compress)
        if self.sendable != EVERY_FRAME:
            return False
        if self.opcode == 0:
            if opcode is not None:
                asked = data_opcode(opcode)
            else:
                asked = TEXT_FRAME if is_text else BINARY_FRAME
        if is_text:
            payload = PyUnicode_AsUTF8String(payload)
        require_buffer(payload)
        PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)    # may run Python code
        try:
            return self.push_checked_fragment(<const unsigned char *>view.buf, view.len, asked, fin, compress)
        finally:
            PyBuffer_Release(&view)

    cdef bint push_checked_fragment(
        self, const unsigned char *data, size_t size, int asked, bint fin, object compress
    ) except -1:
        """Queue a fragment; `asked` is the opcode of its message if it is the first one."""
        cdef int before, first
        cdef unsigned char utf8
        cdef bint is_queued
        self.prepare()
        if self.sendable != EVERY_FRAME:
            return False
        before = self.opcode
        if self.is_adding:
            raise RuntimeError("a fragment is being compressed: the next one can only follow it")
        if before == 0 and asked == NATURAL:
            raise RuntimeError("the message that this fragment belongs to was ended while its payload was asked for")
        first = before or asked
        utf8 = UTF8_ACCEPT if before == 0 else self.utf8_state
        if first == TEXT_FRAME:
            utf8 = check_fragment(utf8, data, size, fin)
        # Compressing lets other threads run: from now on none may get in between.
        self.opcode = first
        self.is_adding = True
        try:
            is_queued = self.push_part(first if before == 0 else CONTINUATION_FRAME, data, size, fin, compress)
        except BaseException:
            self.opcode = before
            raise
        finally:
            self.is_adding = False
        if not is_queued:
            self.opcode = before
            return False
        self.utf8_state = utf8
        if fin:
            self.opcode = 0
            self.compressor = None
            if self.postponed is not None:
                self.push_postponed()
        return True

    cdef bint push_part(
        self, int opcode, const unsigned char *data, size_t size, bint fin, object compress
    ) except -1:
        """Queue a frame of a message of several, compressed or not. Its bytes are copied: they may change later."""
        cdef bytes deflated = None
        cdef PerMessageDeflate codec = self.codec
        cdef int first_byte = (0x80 if fin else 0) | opcode
        if opcode != CONTINUATION_FRAME:
            self.compressor = None
        if codec is None or (
            opcode == CONTINUATION_FRAME and self.compressor is None
        ) or (opcode != CONTINUATION_FRAME and (not wants_deflating(codec, size, compress) or codec.is_held_here())):
            return self.push_data(first_byte, data, size, None)
        if codec.keeps_outgoing:
            codec.acquire()
        try:
            if opcode != CONTINUATION_FRAME:
                self.compressor = codec.begin()
                if self.compressor is not None:
                    first_byte |= COMPRESSED
            if first_byte & COMPRESSED or opcode == CONTINUATION_FRAME:
                deflated = codec.deflate_fragment(self.compressor, data, size, fin)
            self.prepare()
            if self.sendable != EVERY_FRAME:    # other threads have run
                codec.forget()
                return False
            if deflated is None:
                return self.push_data(first_byte, data, size, None)
            self.push_frame(
                first_byte, <const unsigned char *>PyBytes_AS_STRING(deflated),
                PyBytes_GET_SIZE(deflated) - (FLUSHED if fin else 0), deflated)
            self.sent_messages += fin
            self.sent_payload += size
            return True
        except BaseException:
            # Compressed input cannot be compressed again, and without it the message would be another one.
            codec.forget()
            if self.sendable == EVERY_FRAME:
                self.sendable = NO_MESSAGE
            raise
        finally:
            if codec.keeps_outgoing:
                codec.release()

    cdef int push_postponed(self) except -1:
        """Queue the messages that had to wait for the end of a message of fragments."""
        cdef list postponed = self.postponed
        self.postponed = None
        self.postponed_bytes = 0
        cdef Prepared prepared
        for prepared in postponed:
            if self.sendable == EVERY_FRAME:
                self.push_prepared(prepared)
        return 0

    cdef int postpone(self, Prepared prepared) except -1:
        cdef list postponed = self.postponed
        if postponed is None:
            postponed = []      # may run Python code, which may have one made
            if self.postponed is None:
                self.postponed = postponed
        self.postponed.append(prepared)
        self.postponed_bytes += <size_t>prepared.size + POSTPONED_OVERHEAD
        return 0

    cdef bint push_prepared(self, Prepared prepared) except -1:
        cdef bytes frame = None if self.opcode else prepared.find_frame(self.codec)     # may let others run
        if self.sendable != EVERY_FRAME:
            return False
        if self.opcode:
            self.postpone(prepared)
        elif frame is not None:
            self.push_shared(frame, prepared.size)
            if self.log is not None and frame[0] & COMPRESSED:
                beginning = prepared.beginning(self.log.limit)
                self.log.note_original(<const unsigned char *>PyBytes_AS_STRING(beginning), prepared.size)
        else:
            try:
                return self.push_message(prepared.message, prepared.opcode, prepared.compress)
            except RuntimeError:
                if not self.opcode:
                    raise
                self.postpone(prepared)     # while it was compressed, another thread has begun a message of fragments
        return True

    # --- the output --------------------------------------------------------------------------------------------------

    def data_to_send(self, amount=None):
        """Return the bytes to send to the peer, at most `amount`, and drop them from the output."""
        cdef size_t own = buffer_size(&self.output.head)
        cdef bytes data = b""
        if own:
            data = (<char *>self.output.head.data + self.output.head.start)[:own]
        if self.output.payload_size:
            data += (<char *>self.output.payload)[:self.output.payload_size]
        data = data[:amount]
        self.output_sent(len(data))
        return data

    cdef Output take_output(self) noexcept:
        cdef Output output = self.output
        self.output = Output(Buffer(NULL, 0, 0, 0), NULL, NULL, 0)
        return output

    cdef int output_sent(self, size_t size) except -1:
        cdef bytes payload
        if size == output_size(&self.output):
            output_all_sent(&self.output)
        else:
            output_consume(&self.output, size)
        if self.late_pong is not None and output_size(&self.output) == 0:
            payload = self.late_pong
            self.late_pong = None
            self.answer_ping(payload)
        return 0

    cdef int answer_ping(self, bytes payload) except -1:
        self.prepare()
        # RFC 6455 section 5.5.2: a ping is to be answered until the peer's close frame came.
        if self.sendable == NO_FRAME:
            return 0
        if output_size(&self.output) > MAX_WAITING_PONGS:
            self.late_pong = payload
            return 0
        self.late_pong = None   # older than this ping: one pong answers both
        return self.push_control(PONG_FRAME, payload)

    cdef int push_bytes(self, bytes data) except -1:
        cdef size_t size = len(data)
        cdef unsigned char *room
        if size == 0:
            return 0
        if size >= LARGE_PAYLOAD and self.output.payload_size == 0:
            output_set_payload(&self.output, data, <const unsigned char *>PyBytes_AS_STRING(data), size)
            return 0
        room = output_begin(&self.output, size)
        if room is NULL:
            raise MemoryError
        memcpy(room, PyBytes_AS_STRING(data), size)
        self.output.head.end += size
        return 0

    cdef int push_shared(self, bytes frame, size_t size) except -1:
        """Put a frame behind the output that was built for several connections: a whole message of `size` bytes."""
        cdef FrameHeader header
        cdef int header_size
        cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(frame)
        if output_size(&self.output) == 0:  # it is shared as it is, however small: no memory for each reader
            output_set_payload(&self.output, frame, data, PyBytes_GET_SIZE(frame))
        else:
            self.push_bytes(frame)
        self.sent_wire += <size_t>PyBytes_GET_SIZE(frame)
        self.sent_messages += 1
        self.sent_payload += size
        if self.log is not None:
            header_size = read_header(data, PyBytes_GET_SIZE(frame), False, 0x70, &header)
            self.log.note(True, data[0], header.length, data + header_size, NULL)
        return 0

    cdef bint push_data(
        self, unsigned char first_byte, const unsigned char *payload, size_t size, object owner
    ) except -1:
        self.push_frame(first_byte, payload, size, owner)
        self.sent_messages += first_byte >> 7
        self.sent_payload += size
        return True

    cdef int push_control(self, unsigned char opcode, bytes payload) except -1:
        self.sent_controls += 1
        return self.push_frame(0x80 | opcode, <const unsigned char *>PyBytes_AS_STRING(payload), len(payload), None)

    cdef int push_frame(
        self, unsigned char first_byte, const unsigned char *payload, size_t size, object owner
    ) except -1:
        """Put a frame behind the output. With an `owner` that keeps it alive, a large payload is not copied."""
        cdef unsigned char key[4]
        cdef unsigned char *room
        cdef int header_size
        cdef bint by_reference = size >= LARGE_PAYLOAD and not self.is_client and is_plain(owner)
        if self.is_client:
            self.keys.take(key)     # prepared by the caller, before it looked at the state
        room = output_begin(&self.output, MAX_HEADER_SIZE + (0 if by_reference else size))
        if room is NULL:
            raise MemoryError
        header_size = write_header(room, first_byte, size, key if self.is_client else NULL)
        self.output.head.end += header_size
        self.sent_wire += header_size + size
        if by_reference:
            output_set_payload(&self.output, owner, payload, size)
        elif size:
            if self.is_client:
                mask_payload(room + header_size, payload, size, key, 0)
            else:
                memcpy(room + header_size, payload, size)
            self.output.head.end += size
        if self.log is not None:
            self.log.note(True, first_byte, size, payload, NULL)
        return 0

    cdef int end(self) noexcept:
        self.sendable = NO_FRAME
        self.late_pong = self.postponed = None
        self.postponed_bytes = 0
        return 0


cdef int consume(Output *output, size_t size) noexcept:
    if size == output_size(output):
        output_all_sent(output)
    else:
        output_consume(output, size)
    return 0


cdef inline bint wants_deflating(PerMessageDeflate codec, size_t size, object compress) noexcept:
    """Whether to compress a message of `size` bytes."""
    return size >= codec.threshold if compress is None else compress is True


cdef inline bint push_whole(
    Sender sender, int opcode, const unsigned char *data, size_t size, object compress, object owner
) except -1:
    """Queue a message of one frame, compressed or not."""
    if sender.codec is not None and wants_deflating(sender.codec, size, compress):
        return sender.push_deflated(opcode, data, size, compress is not None, owner)
    return sender.push_data(0x80 | opcode, data, size, owner)


cdef inline int data_opcode(int opcode) except -1:
    if opcode != TEXT_FRAME and opcode != BINARY_FRAME:
        raise ValueError(f"expected the opcode TEXT (1) or BINARY (2), got {opcode}")
    return opcode


cdef inline bint is_plain(object owner) noexcept:
    """Whether to let go of an object runs no Python code; that of a class of the program's may."""
    return PyBytes_CheckExact(owner) or PyUnicode_CheckExact(owner)


cdef unsigned char check_fragment(
    unsigned char state, const unsigned char *data, size_t size, bint fin
) except? UTF8_REJECT:
    """Carry the state of a TEXT message over one more fragment of it."""
    state = utf8_check(state, data, size)
    if state == UTF8_REJECT or (fin and state != UTF8_ACCEPT):
        raise ValueError("expected the fragments of a TEXT message to make valid UTF-8 together (RFC 6455 section 5.6)")
    return state


cdef int require_choice(object compress) except -1:
    if not isinstance(compress, bool):
        raise TypeError(f"expected compress to be True, False, or None for the threshold to decide, got {compress!r}")
    return 0


cdef int require_buffer(object payload) except -1:
    if not PyObject_CheckBuffer(payload):
        raise TypeError(
            f"expected a message of str or bytes-like, got {type(payload).__name__}: "
            "encode it first, for example with json.dumps")
    return 0


cdef int require_utf8(const unsigned char *data, size_t size) except -1:
    if utf8_check(UTF8_ACCEPT, data, size) != UTF8_ACCEPT:
        raise ValueError(
            "expected valid UTF-8 for a TEXT message (RFC 6455 section 8.1): send it as BINARY, or encode it first")
    return 0
