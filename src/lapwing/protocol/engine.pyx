"""One end of a WebSocket connection, without I/O (RFC 6455 sections 5 to 8): the engine that everything drives.

It is made of parts: the receiver makes messages of bytes, the sender bytes of messages, `Keepalive` knows the pings and
how long the peer may be silent, `Closing` how the connection ends, a `FrameLog` sees the frames where one is
wanted. None of them knows the engine: they return their findings, control frames and broken rules included, and the
engine acts on it. It alone runs the table of moves (`state`).

As in `sender`, what may run Python code comes first, and the state is looked at afterwards: then the frame, the move
and `closed` are one step, in which no finalizer and no signal handler can find, or leave, half of it.
"""

cimport cython

from ..native.buffer cimport Buffer, buffer_free, buffer_size
from ..native.instant cimport NEVER
from ..native.landing cimport Landing
from ..native.prefetch cimport prefetch
from .closing cimport Closing, check_close, close_payload, error_of, new_closed, read_close
from .compression cimport PerMessageDeflate
from .frame cimport CLOSE_FRAME, COMPRESSED, PING_FRAME, PONG_FRAME, keys_for_endpoint
from .framelog cimport FrameLog
from .inflating cimport Inflater
from .keepalive cimport NOTHING_DUE, PING_DUE, Due, Keepalive, Ping
from .limits cimport MAX_WAITING_PONGS
from .placing cimport take_placed
from .receiver cimport (
    ALL_TAKEN, ENDED, REST_LEFT, RULE_BROKEN, TAKE_CONTROL, TAKE_FAULT, Outcome, Receiver, is_over,
)
from .sender cimport NO_DATA, NO_MESSAGE, Sender, output_clear
from .state cimport (
    CLOSE_RECEIVED, CLOSE_SENT, CLOSED, EOF_RECEIVED, FAILED, OPEN, SILENCE, STAY, TIME_EXPIRED,
    EndpointEnding, Event, Move, move_on,
)
from .streamed cimport StreamedMessage
from .streaming cimport copy_out, skip_streamed, stop_awaiting, stream_next, take_piece
from .violation cimport HTTP_RESPONSE, MESSAGE_TOO_BIG, NO_FAULT, Fault

from .violation import Violation

__all__ = ["Engine"]

cdef tuple VIOLATIONS = (None, *Violation)      # by Fault: to ask an Enum for a member runs Python code


cdef enum:
    # Bytes of the parts that a message uses.
    RECEIVER_SIZE = 192
    SENDER_SIZE = 176
    DECODER_SIZE = 96


@cython.freelist(32)
@cython.no_gc_clear     # a driver that goes asks how the connection ended; what it refers to breaks its cycles
cdef class Engine:
    """One end of a connection; `Endpoint` is what programs use."""

    def __cinit__(self):
        self.receiver = Receiver.__new__(Receiver)
        self.sender = Sender.__new__(Sender)
        self.keepalive = Keepalive.__new__(Keepalive)
        self.closing = Closing.__new__(Closing)

    cdef int set_up(
        self, bint is_client, uint64_t max_message, size_t max_held_input, double close_timeout, bint holds_large
    ) except -1:
        self.is_client = self.sender.is_client = is_client
        self.receiver.set_up(is_client, max_message, max_held_input, holds_large)
        self.closing.timeout = close_timeout
        self.sender.keys = keys_for_endpoint()
        return 0

    cdef Engine new_like(self):
        cdef Engine engine = Engine.__new__(Engine)
        cdef Receiver receiver = self.receiver
        engine.set_up(
            self.is_client, receiver.max_message, receiver.max_held_input, self.closing.timeout, receiver.holds_large)
        return engine

    cdef int use(self, object extensions) except -1:
        for extension in extensions:
            if not isinstance(extension, PerMessageDeflate):
                raise TypeError(f"expected permessage-deflate, as a handshake agrees on it, got {extension!r}")
            self.sender.codec = extension
            self.receiver.inflater = Inflater(extension)
            self.receiver.decoder.reserved = COMPRESSED
        return 0

    # --- moves -------------------------------------------------------------------------------------------------------

    cdef bint move(self, Event event) noexcept:
        """Take the move of the table; returns whether this ended the connection."""
        cdef Move move = move_on(self.phase, event)
        cdef EndpointEnding end = move.client if self.is_client else move.server
        cdef bint ended = self.phase != CLOSED and move.phase == CLOSED
        self.phase = move.phase
        if end != STAY:
            self.end = end
        return ended

    cdef bint end_by(self, Event event, object closed) except -1:
        """Take a move of the table; if it ends the connection, record how, and let go of what can no longer matter.

        Returns whether it did.
        """
        cdef object _postponed = self.sender.postponed      # goes last: that may run Python code
        if not self.move(event):
            return False
        self.closing.closed = closed
        if self.receiver.reading == RULE_BROKEN:    # the application is waited for no longer
            self.closing.deadline = NEVER
        self.sender.end()
        self.receiver.end_input(ENDED)
        return True

    # --- input -------------------------------------------------------------------------------------------------------

    cdef int feed_bytes(self, object data, double now) except -1:
        cdef bytearray copy = bytearray(memoryview(data))
        return self.feed(<unsigned char *><char *>copy, len(copy), now)

    cdef int go_on(self, unsigned char *data, size_t size, size_t used, Outcome outcome) except -1:
        """Act on what came, and decode the rest of the input."""
        self.receiver.is_decoding = True
        try:
            if outcome != REST_LEFT:
                self.act_on(outcome)
                used += self.decode(data + used, size - used)
        finally:
            self.receiver.is_decoding = False
        return self.decode_held() if self.receiver.keep(data + used, size - used) else 0

    cdef size_t decode(self, unsigned char *data, size_t size) except? 0:
        cdef size_t used = 0, count
        cdef Outcome outcome = REST_LEFT
        while outcome != ALL_TAKEN:
            outcome = self.receiver.decode(data + used, size - used, &count)
            used += count
            self.act_on(outcome)
        return used

    cdef int decode_held(self) except -1:
        """Decode input that had to wait; for a pong in it, the time of the last read stands in for its own."""
        cdef Receiver receiver = self.receiver
        cdef Buffer held
        cdef unsigned char nothing = 0      # C knows no empty range of bytes without a place
        cdef size_t used
        cdef bint goes_on = True
        self.take_fault()
        while goes_on and receiver.begin_held(&held):
            try:
                used = self.decode(&nothing if held.data is NULL else held.data + held.start, buffer_size(&held))
            except BaseException:
                buffer_free(&held)
                raise
            finally:
                receiver.is_decoding = False
            goes_on = receiver.end_held(&held, used)
        return 0

    cdef int approach(self, int step) noexcept:
        if step == 1:
            prefetch(<void *>self.receiver, RECEIVER_SIZE)
            prefetch(<void *>self.sender, SENDER_SIZE)
        else:
            prefetch(<void *>self.receiver.decoder, DECODER_SIZE)
        return 0

    cdef int take_landed(self, const Landing *landing, unsigned char *buffer, size_t count, double now) except -1:
        cdef size_t used
        if landing.room is NULL:
            return self.feed(buffer, count, now)
        if not is_over(self.receiver):
            self.now = now
        used = take_placed(self.receiver, landing, buffer, count)
        self.take_fault()
        # What went to the place is not in the buffer: there the rest follows the header.
        return 0 if used >= count else self.feed(buffer + (landing.head if used else 0), count - used, now)

    cdef int receive_eof(self, str reason) except -1:
        cdef object closed = new_closed(False, 1006, reason)
        if self.has_undecoded():
            self.receiver.max_held_input = <size_t>-1   # nothing more will come that would have to wait
            self.decode_held()
        if self.is_broken():
            self.refuse_held(self.now)
        self.end_by(EOF_RECEIVED, closed)
        return 0

    cdef int act_on(self, Outcome outcome) except -1:
        if outcome == TAKE_CONTROL:
            return self.take_control()
        return self.take_fault() if outcome == TAKE_FAULT else 0

    cdef int take_control(self) except -1:
        cdef unsigned char opcode = self.receiver.decoder.frame.opcode
        cdef bytes payload = self.receiver.decoder.take_control()
        self.received_controls += 1
        if opcode == PING_FRAME:
            return self.sender.answer_ping(payload)
        if opcode == PONG_FRAME:
            return self.keepalive.take_pong(payload, self.now)
        return self.take_close(payload)

    cdef int take_close(self, bytes payload) except -1:
        """Take the peer's close frame, and answer it unless this end's was first (RFC 6455 sections 5.5.1 and 7.1)."""
        cdef Fault fault
        cdef object closed = read_close(payload, &fault)
        if fault != NO_FAULT:
            self.receiver.break_rule(fault)
            return self.take_fault()
        self.sender.prepare()
        self.closing.received = payload
        self.closing.is_peer_first = self.closing.sent is None
        if self.phase == OPEN:
            self.push_close(payload)
        self.end_by(CLOSE_RECEIVED, closed)
        return self.closing.begin(self.now)

    cdef int push_close(self, bytes payload) except -1:
        """Queue this end's close frame: the first and only one."""
        self.closing.sent = payload
        return self.sender.push_control(CLOSE_FRAME, payload)

    # --- messages ----------------------------------------------------------------------------------------------------

    cdef list pop_all(self, Py_ssize_t limit):
        cdef list messages = self.receiver.pop_all(limit)
        if self.has_undecoded() and self.receiver.has_room():
            self.decode_held()
        return messages

    cdef object pop_into(self, object view):
        cdef object size = copy_out(self.receiver, view)
        if self.has_undecoded() and self.receiver.has_room():
            self.decode_held()
        return size

    cdef StreamedMessage begin_stream(self, int64_t limit):
        cdef StreamedMessage streamed = stream_next(self.receiver, limit)
        if streamed is None:
            if self.is_broken():
                self.refuse_held(self.now)
        elif not streamed.is_complete and self.receiver.streamed is not streamed:
            self.fail_now(VIOLATIONS[<int>MESSAGE_TOO_BIG])
        else:
            self.decode_held()
        return streamed

    cdef int forget_stream(self) except -1:
        return self.refuse_held(self.now) if stop_awaiting(self.receiver) else self.decode_held()

    cdef object pop_piece(self, StreamedMessage streamed):
        cdef Receiver receiver = self.receiver
        piece = take_piece(receiver, streamed)
        if receiver.has_room() and (self.has_undecoded() or receiver.has_pending()):
            self.decode_held()
        return piece

    cdef int skip_stream(self, StreamedMessage streamed) except -1:
        if self.receiver.streamed is not streamed:
            return 0
        skip_streamed(self.receiver, streamed)
        return self.decode_held()

    # --- output ------------------------------------------------------------------------------------------------------

    cdef int push_fragment(self, object payload, bint fin, object opcode, object compress) except -1:
        cdef bint is_queued
        try:
            is_queued = self.sender.push_fragment(payload, fin, opcode, compress)
        except BaseException:
            if self.sender.sendable == NO_MESSAGE:
                self.fail(1011, "a compressed message could not be continued", self.now)
            raise
        if not is_queued:
            raise error_of(self.closing)
        return 0

    cdef Ping push_ping(self, object payload, double now):
        cdef Ping ping = self.keepalive.new_ping(payload, now)
        cdef list pings = []
        self.sender.prepare()
        if self.phase != OPEN:
            raise error_of(self.closing)
        self.sender.push_control(PING_FRAME, ping.payload)
        self.keepalive.note_ping(ping, pings)
        return ping

    # --- time --------------------------------------------------------------------------------------------------------

    cdef int keep_alive(self, double ping_interval, double ping_timeout, double now) except -1:
        self.now = now
        return self.keepalive.begin(ping_interval, ping_timeout, now)

    cdef bint act_on_time(self, double now, double stalled) except -1:
        cdef Due due
        if self.closing.deadline != NEVER:
            if now >= self.closing.deadline:
                if self.is_broken():
                    self.refuse_held(now)
                else:
                    self.expire()
            return False
        if self.phase != OPEN:
            return False
        due = self.keepalive.find_due(self.now, now, stalled)
        if due == PING_DUE:
            return self.send_keepalive(now)
        if due != NOTHING_DUE:
            self.fail_silent(now)
        return False

    cdef bint send_keepalive(self, double now) except -1:
        cdef Ping ping = self.keepalive.new_ping(None, now)
        cdef list pings = []
        cdef bint lags
        self.sender.prepare()
        if self.phase != OPEN:
            return False
        # The pong would wait unread while the application lags. A peer that sees only that nothing is read may still
        # count this as life.
        lags = self.is_lagging()
        if self.unsent() <= MAX_WAITING_PONGS:
            self.sender.push_control(PING_FRAME, b"" if lags else ping.payload)
            if not lags:
                self.keepalive.note_ping(ping, pings)
        return self.keepalive.ping_sent(now, not lags)

    cdef int fail_silent(self, double now) except -1:
        """Give up on a peer that shows no sign of life."""
        cdef str silence = self.keepalive.silence(self.now, now)
        # 1011 as `websockets` sends, in case that the peer can still read.
        cdef bytes payload = close_payload(1011, silence)
        cdef object closed = new_closed(False, 1006, silence + self.keepalive.stall())
        self.sender.prepare()
        if self.phase != OPEN:
            return 0
        self.push_close(payload)
        self.end_by(SILENCE, closed)
        self.now = now
        return self.closing.begin(now)

    cdef int expire(self) except -1:
        cdef object closed = new_closed(False, 1006, f"no close frame came within {self.closing.timeout:g} s")
        self.closing.deadline = NEVER
        self.end_by(TIME_EXPIRED, closed)
        return 0

    # --- the end -----------------------------------------------------------------------------------------------------

    cdef int take_fault(self) except -1:
        cdef Fault fault = self.receiver.fault
        if fault == NO_FAULT:
            return 0
        self.receiver.fault = NO_FAULT
        return self.fail_by(fault)

    cdef int fail_by(self, Fault fault) except -1:
        """Fail the connection because of what came from the peer (RFC 6455 section 7.1.7).

        The application may have messages that came before, and be about to answer them. Then nothing more is taken in,
        and the connection fails when the application asks for the next message, since by then it has answered, but at
        the latest after `close_timeout`. Its findings must not depend on how the peer's bytes were cut, so nothing
        else decides.
        """
        cdef object violation = VIOLATIONS[<int>fault]
        if self.phase != OPEN or (self.receiver.received_messages == 0 and self.receiver.streamed is None):
            self.receiver.reading = ENDED
            return self.fail_now(violation)
        self.closing.violation = violation
        self.receiver.end_input(RULE_BROKEN)
        self.receiver.has_news = True
        return self.closing.begin(self.now)

    cdef int refuse_held(self, double now) except -1:
        """Fail the connection because of the message that was held back until the application would ask for it."""
        self.now = now
        return self.fail_now(self.closing.violation if self.is_broken() else VIOLATIONS[<int>MESSAGE_TOO_BIG])

    cdef int fail_now(self, object violation) except -1:
        cdef str reason = violation.text
        if violation is VIOLATIONS[<int>HTTP_RESPONSE]:
            reason += f": status {self.receiver.decoder.status()}"
        self.closing.violation = violation
        return self.fail_with(violation.code, reason, close_payload(violation.code, reason))

    cdef int fail(self, int code, str reason, double now) except -1:
        cdef bytes payload = close_payload(code, reason)
        self.now = now
        return self.fail_with(code, reason, payload)

    cdef int fail_with(self, int code, str reason, bytes payload) except -1:
        cdef object closed = new_closed(False, code, reason)
        self.sender.prepare()
        if self.phase == CLOSED:
            return 0
        if self.phase == OPEN:
            self.push_close(payload)
        self.end_by(FAILED, closed)
        return self.closing.begin(self.now)

    cdef int close(self, object code, str reason, double now, object timeout) except -1:
        cdef bytes payload = check_close(code, reason)
        if timeout is not None:
            self.closing.timeout = timeout
        self.sender.prepare()
        if self.phase != OPEN:
            return 0
        if self.is_broken():
            return self.refuse_held(now)
        self.receiver.discard_messages()
        self.push_close(payload)
        self.sender.sendable = NO_DATA
        self.move(CLOSE_SENT)
        self.now = now
        self.closing.begin(now)
        return self.decode_held() if self.has_undecoded() else 0

    cdef int refuse(self, str reason, double now) except -1:
        cdef object closed = new_closed(False, 1006, reason)
        self.now = now
        self.end_by(FAILED, closed)
        return self.closing.begin(now)

    cdef int abort(self, str reason, double now) except -1:
        cdef object closed = new_closed(False, 1006, reason or "this end aborted the connection")
        if self.end_by(EOF_RECEIVED, closed):
            self.now = now
        output_clear(&self.sender.output)
        return 0

    # --- looking at it -----------------------------------------------------------------------------------------------

    cdef int record_frames(self, Py_ssize_t payload) except -1:
        cdef FrameLog log = None if payload < 0 else FrameLog(payload)
        if log is None or self.sender.log is None:
            self.receiver.log = self.sender.log = log
        else:
            self.sender.log.limit = payload
        return 0

    cdef list take_frames(self):
        return [] if self.sender.log is None else self.sender.log.take()
