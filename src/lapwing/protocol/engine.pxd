# One end of a WebSocket connection, without I/O: the contract between the protocol and all that drives it.

cimport cython
from libc.stdint cimport int64_t, uint64_t

from ..native.buffer cimport Buffer
from ..native.instant cimport NEVER
from ..native.landing cimport Landing
from .closing cimport Closing, error_of, frame_of
from .keepalive cimport Keepalive, Ping
from .limits cimport LONGEST_LINGER
from .placing cimport find_place
from .prepared cimport Prepared
from .receiver cimport ALL_TAKEN, HELD_BACK, RULE_BROKEN, Outcome, Receiver, is_over, lags
from .sender cimport Output, Sender, output_size
from .state cimport CLOSED, OPEN, EndpointEnding, EndpointState, Event
from .streamed cimport StreamedMessage
from .violation cimport Fault


# Statistics: messages, bytes of their payloads, bytes with all headers, control frames.
cdef struct Counts:
    uint64_t received_messages
    uint64_t sent_messages
    uint64_t received_payload
    uint64_t sent_payload
    uint64_t received_wire
    uint64_t sent_wire
    unsigned int received_controls
    unsigned int sent_controls


# In all of this `now` is the time of the call, on the monotonic clock of the caller's.
@cython.final
cdef class Engine:
    cdef EndpointState phase        # where the connection stands
    cdef EndpointEnding end         # the next act on its transport
    cdef bint is_client             # which end this is
    cdef unsigned int received_controls
    cdef double now                 # when the last input arrived, or when the connection ended
    # its parts, made with it
    cdef Receiver receiver
    cdef Sender sender
    cdef Keepalive keepalive
    cdef Closing closing

    # Give a new engine its settings, see `Endpoint`; make another one with the same.
    cdef int set_up(
        self, bint is_client, uint64_t max_message, size_t max_held_input, double close_timeout, bint holds_large
    ) except -1
    cdef Engine new_like(self)

    # Use permessage-deflate as it was agreed on; TypeError for any other extension.
    cdef int use(self, object extensions) except -1

    # --- input ---

    # Decode `size` bytes from the peer. Writes over them; they are the caller's again on return.
    cdef inline int feed(self, unsigned char *data, size_t size, double now) except -1:
        cdef size_t used
        cdef Outcome outcome
        if not is_over(self.receiver):
            self.now = now
        outcome = self.receiver.feed(data, size, &used)
        return 0 if outcome == ALL_TAKEN else self.go_on(data, size, used, outcome)

    # Have the processor fetch what a message uses, as `Source.approach`, with 1 and 2.
    cdef int approach(self, int step) noexcept

    # As `feed`, of bytes that were read to where `find_landing` (see `placing`) said.
    cdef inline int find_landing(self, Landing *landing, bint may_expect) except -1:
        return find_place(self.receiver, landing, may_expect)

    cdef int take_landed(self, const Landing *landing, unsigned char *buffer, size_t count, double now) except -1

    # Bytes that came behind the opening handshake.
    cdef int feed_bytes(self, object data, double now) except -1

    # Learn that no more bytes will come, and why.
    cdef int receive_eof(self, str reason) except -1

    # Whether to read no more from the peer, because the application lags; whether input waits to be decoded, and go on
    # with it; whether it is being decoded at this moment, by a thread or around this call.
    cdef inline bint is_lagging(self) noexcept:
        return lags(self.receiver)

    cdef inline bint has_undecoded(self) noexcept:
        return self.receiver.undecoded.end != 0

    cdef int decode_held(self) except -1

    cdef inline bint is_decoding(self) noexcept:
        return self.receiver.is_decoding

    # --- messages ---

    cdef inline bint wants_input(self) noexcept:
        return self.phase != CLOSED and not lags(self.receiver)

    # How many messages, and pieces of one that is streamed, wait for the application.
    cdef inline size_t waiting(self) noexcept:
        return self.receiver.messages.count

    cdef inline size_t waiting_bytes(self) noexcept:
        return self.receiver.message_bytes

    # Take the oldest message; there must be one. Or all, at most `limit` unless that is negative; or copy it into a
    # buffer (see `streaming.copy_out`).
    cdef inline object pop(self):
        message = self.receiver.pop()
        if self.receiver.undecoded.end and self.receiver.has_room():
            self.decode_held()
        return message

    cdef list pop_all(self, Py_ssize_t limit)
    cdef object pop_into(self, object view)

    # Begin to give out the next message in pieces, if it has begun; None when it has not: then it is held back when it
    # begins, until this is called again, or `forget_stream`. `limit` in bytes, or NO_LIMIT.
    cdef StreamedMessage begin_stream(self, int64_t limit)
    cdef int forget_stream(self) except -1

    cdef inline bint awaits_stream(self) noexcept:
        return self.receiver.wants_stream

    # The message that is given out in pieces, until its last piece was taken; None when there is none.
    cdef inline StreamedMessage streamed(self):
        return self.receiver.streamed

    # Take its oldest piece; there must be one. Or skip the rest of it.
    cdef object pop_piece(self, StreamedMessage streamed)
    cdef int skip_stream(self, StreamedMessage streamed) except -1

    # Whether decoding waits until the application asks for the next message: for a message that was held back, or to
    # fail the connection since the peer broke a rule. `refuse_held` fails it.
    cdef inline bint is_held(self) noexcept:
        return self.receiver.reading == HELD_BACK or self.receiver.reading == RULE_BROKEN

    cdef inline bint is_broken(self) noexcept:
        return self.receiver.reading == RULE_BROKEN

    cdef int refuse_held(self, double now) except -1

    # Whether a message was held back, a streamed one has ended, or a rule was broken, since `forget_news`.
    cdef inline bint has_news(self) noexcept:
        return self.receiver.has_news

    cdef inline int forget_news(self) noexcept:
        self.receiver.has_news = False
        return 0

    # --- output ---

    # Queue a message; `opcode` is None for the one that fits its type. To compress it lets other threads run, so what
    # else the caller knows of this engine may have changed on return.
    cdef inline int push_message(self, object message, object opcode, object compress) except -1:
        if not self.sender.push_message(message, opcode, compress):
            raise error_of(self.closing)
        return 0

    cdef int push_fragment(self, object payload, bint fin, object opcode, object compress) except -1

    # Queue a `Prepared` message, behind a message of fragments that is under way. Returns whether it was queued: while
    # it is compressed another thread may end the connection.
    cdef inline bint push_prepared(self, Prepared prepared) except -1:
        return self.sender.push_prepared(prepared)

    # Whether a message of fragments is under way, and what waits for its end, in bytes.
    cdef inline bint is_in_message(self) noexcept:
        return self.sender.opcode != 0

    cdef inline size_t postponed(self) noexcept:
        return self.sender.postponed_bytes

    # Put bytes behind the output as they are.
    cdef inline int push_bytes(self, bytes data) except -1:
        return self.sender.push_bytes(data)

    # Queue a ping, which `forget_ping` gives up on; take the pings that were answered since the last time, if there are
    # some; the last round trip in seconds, or None.
    cdef Ping push_ping(self, object payload, double now)
    cdef inline int forget_ping(self, Ping ping) except -1:
        return self.keepalive.forget(ping)

    cdef inline bint has_answered(self) noexcept:
        return self.keepalive.answered is not None

    cdef inline list take_answered(self):
        return self.keepalive.take_answered()

    cdef inline object latency(self):
        return self.keepalive.latency()

    # The output, to be sent from where it is, and then dropped as far as it was sent; or taken over whole, to be
    # dropped by `sender.consume`.
    cdef inline Output *output(self) noexcept:
        return &self.sender.output

    cdef inline int output_sent(self, size_t size) except -1:
        return self.sender.output_sent(size)

    cdef inline Output take_output(self) noexcept:
        return self.sender.take_output()

    # Bytes of output that have not been sent.
    cdef inline size_t unsent(self) noexcept:
        return output_size(&self.sender.output)

    # --- time ---

    # Watch from now on that the peer is there; NEVER for no keepalive, and for waiting for ever.
    cdef int keep_alive(self, double ping_interval, double ping_timeout, double now) except -1

    cdef inline double ping_interval(self) noexcept:
        return self.keepalive.ping_interval

    # When the peer, or the application after a broken rule, is waited for no longer; NEVER while it is not waited for.
    cdef inline double closing_due(self) noexcept:
        return self.closing.deadline

    cdef inline double close_timeout(self) noexcept:
        return self.closing.timeout

    # Until when a call waits for the peer's part of the end, from `now` on: for its close frame, or once the connection
    # has ended, for the end of TCP.
    cdef inline double end_due(self, double now, bint has_ended) noexcept:
        return now + (min(self.closing.timeout, <double>LONGEST_LINGER) if has_ended else self.closing.timeout)

    # When `act_on_time` has something to do, or NEVER.
    cdef inline double next_due(self) noexcept:
        if self.closing.deadline != NEVER:
            return self.closing.deadline
        return self.keepalive.deadline(self.now) if self.phase == OPEN else NEVER

    # Whether `act_on_time` is going to fail the connection for the peer's silence, unless input comes first.
    cdef inline bint is_dead(self, double now, double stalled) noexcept:
        return self.phase == OPEN and not self.is_broken() and self.keepalive.is_overdue(self.now, now, stalled)

    # Act on the time; this end could not attend for `stalled` seconds. Returns whether a ping went out whose answer is
    # waited for.
    cdef bint act_on_time(self, double now, double stalled) except -1

    # Leave out so many seconds in which this end did not read: they count neither for nor against the peer.
    cdef inline int excuse(self, double seconds) noexcept:
        self.now += seconds
        return self.keepalive.excuse(seconds)

    # Learn that output arrives at the peer, though nothing comes from it: it is there. It is asked again, since the
    # ping may have been held back by that output.
    cdef bint send_keepalive(self, double now) except -1

    # --- the end ---

    # How it ended, a `Closed`; None before.
    cdef inline object closed(self):
        return self.closing.closed

    # The close frames, each a `CloseFrame`; None before there was one; and whether the peer's came first.
    cdef inline object close_received(self):
        return frame_of(self.closing.received)

    cdef inline object close_sent(self):
        return frame_of(self.closing.sent)

    cdef inline object peer_closed_first(self):
        return None if self.closing.sent is None else bool(self.closing.is_peer_first)

    # Begin the closing handshake, with seconds that take the place of `close_timeout` unless they are None; fail the
    # connection; end it at once, with None for the usual reason; wait for the peer's part no longer.
    cdef int close(self, object code, str reason, double now, object timeout) except -1
    cdef int fail(self, int code, str reason, double now) except -1
    cdef int abort(self, str reason, double now) except -1
    cdef int expire(self) except -1

    # End a connection whose opening handshake was refused: only the output goes out, no close frame.
    cdef int refuse(self, str reason, double now) except -1

    # The exception for who wants to use a connection that is closing or closed.
    cdef inline object closed_error(self):
        return error_of(self.closing)

    # --- looking at it ---

    cdef inline Counts counts(self) noexcept:
        return Counts(
            self.receiver.received_messages, self.sender.sent_messages, self.receiver.received_payload,
            self.sender.sent_payload, self.receiver.received_wire, self.sender.sent_wire, self.received_controls,
            self.sender.sent_controls)

    # Bytes held in addition to the output.
    cdef inline size_t held_input(self) noexcept:
        return self.receiver.held() + self.sender.postponed_bytes

    # Note every frame from now on, with so many bytes of payload; a negative number ends it.
    cdef int record_frames(self, Py_ssize_t payload) except -1
    cdef inline bint has_frames(self) noexcept:
        return self.sender.log is not None and len(self.sender.log.notes) > 0
    cdef list take_frames(self)

    # Steps of the above, for this module alone.
    cdef int go_on(self, unsigned char *data, size_t size, size_t used, Outcome outcome) except -1
    cdef size_t decode(self, unsigned char *data, size_t size) except? 0
    cdef int act_on(self, Outcome outcome) except -1
    cdef int take_control(self) except -1
    cdef int take_close(self, bytes payload) except -1
    cdef int push_close(self, bytes payload) except -1
    cdef int take_fault(self) except -1
    cdef int fail_by(self, Fault fault) except -1
    cdef int fail_now(self, object violation) except -1
    cdef int fail_with(self, int code, str reason, bytes payload) except -1
    cdef int fail_silent(self, double now) except -1
    cdef bint move(self, Event event) noexcept
    cdef bint end_by(self, Event event, object closed) except -1
