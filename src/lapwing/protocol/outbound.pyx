"""From messages to the peer's bytes: the half of an endpoint that sends (RFC 6455 sections 5 and 6.1).

A message becomes a frame, or one for each of its fragments, behind what is in the output already; the owner takes the
output and sends it. A message is masked or copied into the output, except a large one of a server: that is sent from
where it is.

Much runs Python code that may use this same endpoint, or lets other threads run that may: the `__buffer__` of a
message, compressing, fetching random bytes for masks, and, since finalizers run then, making any object that Python's
collector tracks. So all of that comes first; then `require_sendable` or a look at the state; and from there until the
frame is in the output nothing of the kind happens. No pointer into the output is kept across it.

`Inbound` is the other half. `Endpoint`, which is what to use, adds what connects the two: control frames and how a
connection ends.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer
from cpython.unicode cimport PyUnicode_AsUTF8String, PyUnicode_CheckExact
from libc.string cimport memcpy

from .compression cimport FLUSHED, PerMessageDeflate
from .frame cimport (
    BINARY_FRAME, COMPRESSED, CONTINUATION_FRAME, MAX_HEADER_SIZE, PONG_FRAME, TEXT_FRAME, FrameHeader, mask_payload,
    read_header, write_header,
)
from ..native.buffer cimport Buffer, buffer_size
from .limits cimport LARGE_PAYLOAD, MAX_WAITING_PONGS, POSTPONED_OVERHEAD
from .prepared cimport Prepared
from .state cimport CLOSED, OPEN
from .streaming cimport Streaming
from .utf8 cimport UTF8_ACCEPT, UTF8_REJECT, utf8_check

from .errors import ConnectionClosed

__all__ = ["Outbound"]


cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL


cdef enum:
    # The opcode of a message whose type says it: TEXT for `str`, BINARY for bytes-like.
    NATURAL = -1


cdef class Outbound(Streaming):
    """The sending half of an endpoint; see `Endpoint`, which is what to use."""

    def __dealloc__(self):
        output_clear(&self.output)

    # --- messages ----------------------------------------------------------------------------------------------------

    def send(self, message, opcode=None, *, compress=None):
        """Queue a message as one frame (RFC 6455 section 6.1).

        Args:
            message: `str` goes out as TEXT, bytes-like as BINARY.
            opcode: `TEXT` or `BINARY` overrides that; bytes sent as TEXT must be valid UTF-8.
            compress: whether to compress it (RFC 7692); None when it has as many bytes as the threshold says. Without
                effect where compression was not agreed on. Without context takeover a message that does not get smaller
                goes out as it is.

        Raises:
            ConnectionClosed: the connection is closing or closed.
            TypeError: the message is neither `str` nor bytes-like, or `compress` is not True, False or None.
            BufferError: the bytes-like object is not in one piece (a `memoryview` with steps).
            ValueError: the opcode is neither TEXT nor BINARY, or bytes for TEXT are not UTF-8.
            RuntimeError: a message of fragments is under way.
        """
        self.push_message(message, opcode, compress)

    cdef int push_message(self, object message, object asked, object compress=None) except -1:
        """Queue a message; `asked` is its opcode, or None for the one that fits its type."""
        cdef int opcode = NATURAL if asked is None else data_opcode(asked)
        cdef Py_ssize_t size
        cdef const unsigned char *data
        cdef Py_buffer view
        if compress is not None:
            require_choice(compress)
        if self.client:
            self.keys.prepare()
        if self.phase != OPEN or self.sending_opcode:
            self.require_sendable()
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
            if self.client:
                self.keys.prepare()
            self.require_sendable()
            return push_whole(self, opcode, <const unsigned char *>view.buf, view.len, compress, None)
        finally:
            PyBuffer_Release(&view)

    cdef int require_sendable(self) except -1:
        if self.phase != OPEN:
            raise self.closed_error()
        if self.sending_opcode:
            raise RuntimeError("a message of fragments is under way: end it with send_fragment(..., fin=True) first")
        return 0

    cdef int push_deflated(
        self, int opcode, const unsigned char *data, size_t size, bint forced, object owner
    ) except -1:
        """Compress a message and queue it (RFC 7692 section 7.2.1).

        With context takeover the two are one step: no other message is compressed in between, and when the second does
        not happen, the compressor begins anew.
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
            if self.client:
                self.keys.prepare()
            self.require_sendable()
            if payload is None:
                return self.push_data(0x80 | opcode, data, size, owner)
            self.push_frame(
                0x80 | COMPRESSED | opcode, <const unsigned char *>PyBytes_AS_STRING(payload),
                PyBytes_GET_SIZE(payload) - FLUSHED, payload)
            if self.frame_log is not None:
                self.note_original(data, size)
            self.sent_messages += 1
            self.sent_payload += size
            return 0
        except BaseException:
            codec.forget()
            raise
        finally:
            if codec.keeps_outgoing:
                codec.release()

    # --- fragments, and what waits for their end ---------------------------------------------------------------------

    def send_fragment(self, payload, *, bint fin, opcode=None, compress=None):
        """Queue one fragment of a message (RFC 6455 section 5.4).

        Args:
            payload: `str` or bytes-like.
            fin: whether this is the last fragment.
            opcode: `TEXT` or `BINARY` for the first fragment, by default what fits `payload`; later ones go by it. A
                message of TEXT may be cut anywhere, but what it is cut from must be UTF-8 (RFC 6455 section 5.6).
            compress: for the first fragment, whether to compress the message; None when this fragment alone has as many
                bytes as the threshold says. Each fragment can be inflated when it arrives, which costs five bytes.

        Raises:
            ConnectionClosed, TypeError, ValueError: as for `send`; the message is then as it was before.
        """
        cdef int asked = NATURAL
        cdef Py_buffer view
        cdef bint is_text = isinstance(payload, str)
        if compress is not None:
            require_choice(compress)
        if self.phase != OPEN:
            raise self.closed_error()
        if self.sending_opcode == 0:
            if opcode is not None:
                asked = data_opcode(opcode)
            else:
                asked = TEXT_FRAME if is_text else BINARY_FRAME
        if is_text:
            payload = PyUnicode_AsUTF8String(payload)
        require_buffer(payload)
        PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)    # may run Python code
        try:
            self.push_fragment(<const unsigned char *>view.buf, view.len, asked, fin, compress)
        finally:
            PyBuffer_Release(&view)

    cdef int push_fragment(
        self, const unsigned char *data, size_t size, int asked, bint fin, object compress
    ) except -1:
        """Queue a fragment; `asked` is the opcode of its message if it is the first one."""
        cdef int before, first
        cdef unsigned char utf8
        if self.client:
            self.keys.prepare()
        if self.phase != OPEN:
            raise self.closed_error()
        before = self.sending_opcode
        if self.is_adding:
            raise RuntimeError("a fragment is being compressed: the next one can only follow it")
        if before == 0 and asked == NATURAL:
            raise RuntimeError("the message that this fragment belongs to was ended while its payload was asked for")
        first = before or asked
        utf8 = UTF8_ACCEPT if before == 0 else self.sending_utf8
        if first == TEXT_FRAME:
            utf8 = check_fragment(utf8, data, size, fin)
        # Compressing lets other threads run: from now on none may get in between.
        self.sending_opcode = first
        self.is_adding = True
        try:
            self.push_part(first if before == 0 else CONTINUATION_FRAME, data, size, fin, compress)
        except BaseException:
            self.sending_opcode = before
            raise
        finally:
            self.is_adding = False
        self.sending_utf8 = utf8
        if fin:
            self.sending_opcode = 0
            self.sending_compressor = None
            if self.postponed is not None:
                self.push_postponed()
        return 0

    cdef int push_part(
        self, int opcode, const unsigned char *data, size_t size, bint fin, object compress
    ) except -1:
        """Queue a frame of a message of several, compressed or not. Its bytes are copied: they may change later."""
        cdef bytes deflated = None
        cdef PerMessageDeflate codec = self.codec
        cdef int first_byte = (0x80 if fin else 0) | opcode
        if opcode != CONTINUATION_FRAME:
            self.sending_compressor = None
        if codec is None or (
            opcode == CONTINUATION_FRAME and self.sending_compressor is None
        ) or (opcode != CONTINUATION_FRAME and (not wants_deflating(codec, size, compress) or codec.is_held_here())):
            return self.push_data(first_byte, data, size, None)
        if codec.keeps_outgoing:
            codec.acquire()
        try:
            if opcode != CONTINUATION_FRAME:
                self.sending_compressor = codec.begin()
                if self.sending_compressor is not None:
                    first_byte |= COMPRESSED
            if first_byte & COMPRESSED or opcode == CONTINUATION_FRAME:
                deflated = codec.deflate_fragment(self.sending_compressor, data, size, fin)
            if self.client:
                self.keys.prepare()
            if self.phase != OPEN:      # other threads have run
                raise self.closed_error()
            if deflated is None:
                return self.push_data(first_byte, data, size, None)
            self.push_frame(
                first_byte, <const unsigned char *>PyBytes_AS_STRING(deflated),
                PyBytes_GET_SIZE(deflated) - (FLUSHED if fin else 0), deflated)
            self.sent_messages += fin
            self.sent_payload += size
            return 0
        except BaseException:
            # What was compressed cannot be compressed again, and without it the message would be another one.
            codec.forget()
            self.fail_with(1011, "a compressed message could not be continued")
            raise
        finally:
            if codec.keeps_outgoing:
                codec.release()

    cdef int push_postponed(self) except -1:
        """Queue what had to wait for the end of a message of fragments."""
        cdef list postponed = self.postponed
        self.postponed = None
        self.postponed_bytes = 0
        cdef Prepared prepared
        for prepared in postponed:
            if self.phase == OPEN:
                self.queue_prepared(prepared)
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

    cdef bint queue_prepared(self, Prepared prepared) except -1:
        cdef bytes frame = None if self.sending_opcode else prepared.find_frame(self.codec)     # may let others run
        if self.phase != OPEN:
            return False
        if self.sending_opcode:
            self.postpone(prepared)
        elif frame is not None:
            self.push_prepared(frame, prepared.size)
            if self.frame_log is not None and frame[0] & COMPRESSED:
                beginning = prepared.beginning(self.noted_payload)
                self.note_original(<const unsigned char *>PyBytes_AS_STRING(beginning), prepared.size)
        else:
            try:
                self.push_message(prepared.message, prepared.opcode, prepared.compress)
            except ConnectionClosed:
                return False
            except RuntimeError:
                if not self.sending_opcode:
                    raise
                self.postpone(prepared)     # while it was compressed, another thread has begun a message of fragments
        return True

    # --- the output --------------------------------------------------------------------------------------------------

    def data_to_send(self):
        """Return the bytes to send to the peer, and count them as sent."""
        cdef size_t own = buffer_size(&self.output.head)
        cdef bytes data = b""
        if own:
            data = (<char *>self.output.head.data + self.output.head.start)[:own]
        if self.output.payload_size:
            data += (<char *>self.output.payload)[:self.output.payload_size]
        self.output_sent(len(data))
        return data

    cdef Output take_output(self) noexcept:
        """Hand over all output: it is the caller's to send and to clear."""
        cdef Output output = self.output
        self.output = Output(Buffer(NULL, 0, 0, 0), NULL, NULL, 0)
        return output

    cdef int consume(self, Output *output, size_t size) noexcept:
        if size == output_size(output):
            output_all_sent(output)
        else:
            output_consume(output, size)
        return 0

    cdef int output_sent(self, size_t size) except -1:
        """Drop `size` bytes of the output: they are on their way."""
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
        """Queue the pong (RFC 6455 section 5.5.2: a ping is to be answered until the peer's close frame came)."""
        if self.client:
            self.keys.prepare()
        if self.phase == CLOSED:
            return 0
        if output_size(&self.output) > MAX_WAITING_PONGS:
            self.late_pong = payload
            return 0
        return self.push_control(PONG_FRAME, payload)

    cdef int push_bytes(self, bytes data) except -1:
        """Put bytes behind the output as they are: the opening handshake, or frames that are ready."""
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

    cdef int push_prepared(self, bytes frame, size_t size) except -1:
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
        if self.frame_log is not None:
            header_size = read_header(data, PyBytes_GET_SIZE(frame), False, 0x70, &header)
            self.log_frame(True, data[0], header.length, data + header_size, NULL)
        return 0

    @cython.final
    cdef int push_data(
        self, unsigned char first_byte, const unsigned char *payload, size_t size, object owner
    ) except -1:
        self.push_frame(first_byte, payload, size, owner)
        self.sent_messages += first_byte >> 7
        self.sent_payload += size
        return 0

    cdef int push_control(self, unsigned char opcode, bytes payload) except -1:
        self.sent_controls += 1
        return self.push_frame(0x80 | opcode, <const unsigned char *>PyBytes_AS_STRING(payload), len(payload), None)

    @cython.final
    cdef int push_frame(
        self, unsigned char first_byte, const unsigned char *payload, size_t size, object owner
    ) except -1:
        """Put a frame behind the output. With an `owner` that keeps it alive, a large payload is not copied."""
        cdef unsigned char key[4]
        cdef unsigned char *room
        cdef int header_size
        cdef bint by_reference = size >= LARGE_PAYLOAD and not self.client and is_plain(owner)
        if self.client:
            self.keys.take(key)     # prepared by the caller, before it looked at the state
        room = output_begin(&self.output, MAX_HEADER_SIZE + (0 if by_reference else size))
        if room is NULL:
            raise MemoryError
        header_size = write_header(room, first_byte, size, key if self.client else NULL)
        self.output.head.end += header_size
        self.sent_wire += header_size + size
        if by_reference:
            output_set_payload(&self.output, owner, payload, size)
        elif size:
            if self.client:
                mask_payload(room + header_size, payload, size, key, 0)
            else:
                memcpy(room + header_size, payload, size)
            self.output.head.end += size
        if self.frame_log is not None:
            self.log_frame(True, first_byte, size, payload, NULL)
        return 0

    # --- for the subclass --------------------------------------------------------------------------------------------

    cdef object closed_error(self):
        raise NotImplementedError

    cdef int fail_with(self, int code, str reason) except -1:
        raise NotImplementedError


cdef inline bint wants_deflating(PerMessageDeflate codec, size_t size, object compress) noexcept:
    """Whether to compress a message of `size` bytes."""
    return size >= codec.threshold if compress is None else compress is True


cdef inline int push_whole(
    Outbound endpoint, int opcode, const unsigned char *data, size_t size, object compress, object owner
) except -1:
    """Queue a message of one frame, compressed or not."""
    if endpoint.codec is not None and wants_deflating(endpoint.codec, size, compress):
        return endpoint.push_deflated(opcode, data, size, compress is not None, owner)
    return endpoint.push_data(0x80 | opcode, data, size, owner)


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
            "encode it first, with json.dumps say")
    return 0


cdef int require_utf8(const unsigned char *data, size_t size) except -1:
    if utf8_check(UTF8_ACCEPT, data, size) != UTF8_ACCEPT:
        raise ValueError(
            "expected valid UTF-8 for a TEXT message (RFC 6455 section 8.1): send it as BINARY, or encode it first")
    return 0
