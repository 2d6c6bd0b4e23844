"""What the connections of both faces are made of: a stream, an endpoint, and what can be asked of them."""

import sys

cimport cython
from libc.stdint cimport int64_t

from ..io.clock cimport clock
from ..io.reactor cimport Source
from ..protocol.endpoint cimport Endpoint
from ..protocol.limits cimport MUCH_OUTPUT
from ..protocol.outbound cimport Output, output_size
from ..protocol.prepared cimport Prepared
from ..native.buffer cimport buffer_size
from ..native.instant cimport NEVER
from ..protocol.inbound cimport snapshot
from ..native.sharing cimport give_lock, put_down, take_lock, take_up
from ..protocol.state cimport CLOSED, OPEN

from ..stats import ConnectionStats

__all__ = ["BaseConnection", "close_after", "make_endpoint"]


cdef extern from "<sys/socket.h>" nogil:
    enum:
        SHUT_RDWR
    int c_shutdown "shutdown"(int fd, int how)


cdef enum:
    # Output that is no more than a ping and what little goes with it: a ping behind it need not wait.
    PING_SIZE = 256
    # At this many calls for a message after the end, a program has not seen that it has come.
    MOST_ENDS = 10
    DEBUG = 10  # as in `logging`


cdef object found_logger = None


cdef object frame_logger():
    """The logger for frames; None where logging was not imported: nobody has enabled a logger before."""
    global found_logger
    if found_logger is None:
        logging = sys.modules.get("logging")
        if logging is not None:
            found_logger = logging.getLogger("lapwing.frames")
    return found_logger


@cython.no_gc_clear
cdef class BaseConnection(Source):
    """What can be asked of any connection.

    Attributes:
        user: what a server's `on_request` has set as its request's `user`: who the client is; otherwise None.
    """

    # An attribute of the class: a connection that has a user of its own keeps it as it keeps attributes of a program's.
    user = None

    cdef int set_endpoint(self, Endpoint endpoint) noexcept:
        """Begin anew, as another thread may be asking for what there is."""
        cdef Endpoint _held = self.endpoint     # goes when nobody can find it any more
        take_lock(&self.lock)
        self.endpoint = endpoint
        self.ends = 0
        self.is_end_told = False
        give_lock(&self.lock)
        return 0

    cdef int note_end(self) except -1:
        self.ends += 1
        if self.ends >= MOST_ENDS:
            raise self.endpoint.closed_error()
        return 0

    cdef Endpoint find_endpoint(self):
        """Return the endpoint to whichever thread asks, None before there is one."""
        take_lock(&self.lock)
        endpoint = self.endpoint
        give_lock(&self.lock)
        return endpoint

    @property
    def closed(self):
        """How the connection ended, a `Closed`, or None while it is open."""
        take_lock(&self.lock)
        try:
            return None if self.endpoint is None else self.endpoint.closed
        finally:
            give_lock(&self.lock)

    @property
    def latency(self):
        """The last round trip of a ping in seconds, whether `ping` or the keepalive sent it; None before the first."""
        take_lock(&self.lock)
        try:
            return None if self.endpoint is None else self.endpoint.latency
        finally:
            give_lock(&self.lock)

    @property
    def subprotocol(self):
        """The subprotocol that was agreed (RFC 6455 section 1.9), or None."""
        take_lock(&self.lock)
        agreed = self.agreed
        give_lock(&self.lock)
        return agreed

    cdef int forget_opening(self) except -1:
        """Begin again without what the last opening handshake brought, as another thread may be asking for it."""
        cdef tuple _held = (self.opened, self.agreed, self.stream)  # goes when it cannot be found any more
        take_lock(&self.lock)
        self.opened = self.agreed = self.stream = None
        give_lock(&self.lock)
        return 0

    @property
    def _role(self):
        cdef Endpoint endpoint = self.find_endpoint()
        return None if endpoint is None else endpoint.role

    cdef object find_opened(self):
        take_lock(&self.lock)
        opened = self.opened
        give_lock(&self.lock)
        return opened

    @property
    def request(self):
        """The request of the opening handshake, a `lapwing.protocol.Request`; None before it."""
        opened = self.find_opened()
        return None if opened is None else opened.request

    @property
    def response(self):
        """The response of the opening handshake, a `lapwing.protocol.Response`; None before it."""
        opened = self.find_opened()
        return None if opened is None else opened.response

    @property
    def path(self):
        """The path that was asked for, without the query; None before the opening handshake."""
        request = self.request
        return None if request is None else request.path

    cdef Stream find_stream(self):
        take_lock(&self.lock)
        stream = self.stream
        give_lock(&self.lock)
        return stream

    @property
    def local_address(self):
        """This end's address, as `socket.getsockname` gives it; None before there is one."""
        cdef Stream stream = self.find_stream()
        return None if stream is None else stream.local_address

    @property
    def peer_address(self):
        """The peer's address, as `socket.getpeername` gives it; None before there is one."""
        cdef Stream stream = self.find_stream()
        return None if stream is None else stream.peer_address

    @property
    def ssl_object(self):
        """The `ssl.SSLObject` of a connection over TLS, else None."""
        cdef Stream stream = self.find_stream()
        return None if stream is None or stream.tls is None else stream.tls.ssl_object

    def stats(self):
        """Return what was counted on this connection since its opening handshake, a `lapwing.stats.ConnectionStats`.

        It may be called at any time, from any thread, also after the end; before `connect` all is 0. While messages go,
        another thread gets each number as it is when it is read: together they need not be of one moment.
        """
        take_lock(&self.lock)
        try:
            return self.take_stock()
        finally:
            give_lock(&self.lock)

    cdef object take_stock(self):
        cdef Endpoint endpoint = self.endpoint
        cdef double until
        cdef size_t unsent
        if endpoint is None:
            return ConnectionStats()
        until = endpoint.now if endpoint.phase == CLOSED else clock()
        unsent = snapshot(self.unsent_size())
        return ConnectionStats(
            messages_received=endpoint.received_messages,
            messages_sent=endpoint.sent_messages,
            payload_received=endpoint.received_payload,
            payload_sent=endpoint.sent_payload,
            wire_received=endpoint.received_wire,
            wire_sent=endpoint.sent_wire,
            controls_received=endpoint.received_controls,
            controls_sent=endpoint.sent_controls,
            queued_messages=endpoint.messages.count,
            queued_bytes=endpoint.message_bytes,
            unsent_bytes=unsent,
            held_bytes=(
                endpoint.held_input() + endpoint.postponed_bytes + snapshot(self.backlog_bytes) + unsent
                + (0 if self.stream is None else snapshot(self.stream.unsent))),
            dropped_broadcasts=self.dropped,
            latency=endpoint.latency,
            age=max(until - self.opened_at, 0.0) if self.opened_at else 0.0,
        )

    cdef int begin_life(self, double now) except -1:
        self.opened_at = now
        self.ended_at = self.expired_at = 0
        self.delivered = -1
        self.frame_log = None
        self.own_timeout = -1 if self._settings.timeout is None else self._settings.timeout
        self.endpoint.keep_alive(self._settings.ping_interval, self._settings.ping_timeout, now)
        logger = frame_logger()
        # Payloads may be secrets: its own level has to say so, not one that it has from above.
        if logger is not None and logger.level and logger.isEnabledFor(DEBUG):
            from .frames import FrameLog

            self.frame_log = FrameLog(self)
            self.endpoint.record_frames()
        return 0

    cdef bint keep_alive(self, double now, double stalled) except -1:
        cdef Endpoint endpoint = self.endpoint
        cdef double due
        cdef int64_t before = self.delivered
        if before >= 0 and endpoint.is_dead(now, stalled):
            # A ping behind much output takes its time: as long as that arrives, the peer is there.
            self.note_ping()
            if self.delivered > before or self.delivered < 0:
                endpoint.progress(now)
                return True
        due = endpoint.reply_due
        endpoint.act_on_time(now, stalled)
        return endpoint.phase == OPEN and endpoint.reply_due not in (due, NEVER) and endpoint.counted_from == now

    cdef int note_ping(self) noexcept:
        cdef size_t unsent = self.unsent_size()
        cdef unsigned int unacknowledged = self.stream.unacknowledged()
        if unsent + unacknowledged <= PING_SIZE:
            self.delivered = -1
        else:
            self.delivered = max(<int64_t>(self.endpoint.sent_wire - unsent) - unacknowledged, 0)
        return 0

    cdef size_t unsent_size(self) noexcept:
        """Bytes of frames that the kernel has not taken yet."""
        return output_size(&self.endpoint.output)

    cdef bint accept_broadcast(self, object broadcast, Prepared prepared, size_t threshold, double now) except -1:
        raise NotImplementedError

    cdef bint take_broadcast(self, object broadcast, Prepared prepared, size_t threshold, double now) except -1:
        cdef size_t unsent = self.unsent_size() + self.endpoint.postponed_bytes
        if self.backlog is None:
            if unsent < threshold:
                return self.endpoint.queue_prepared(prepared)
            self.backlog = broadcast.backlog(now)
        if broadcast.offer(self.backlog, unsent, now):
            self.count_dropped()
            return True
        self.count_dropped()
        if self.backlog.is_hopeless:
            self.give_up_reader(now)
        return False

    cdef int count_dropped(self) except -1:
        self.dropped += <unsigned long>self.backlog.dropped
        self.backlog.dropped = 0
        self.backlog_bytes = self.backlog.size
        return 0

    cdef int end_backlog(self) except -1:
        self.backlog = None
        self.backlog_bytes = 0
        return 0

    cdef bint catch_up(self) except -1:
        cdef bint is_new = False
        if self.endpoint.phase != OPEN:
            self.end_backlog()
            return False
        if self.unsent_size() > <size_t>self.backlog.low or self.endpoint.sending_opcode:
            return False    # between the fragments of a message nothing else may go out
        while self.unsent_size() < MUCH_OUTPUT and not self.endpoint.sending_opcode:
            prepared = self.backlog.take()
            if prepared is None:
                self.end_backlog()
                break
            self.backlog_bytes = self.backlog.size
            self.endpoint.queue_prepared(prepared)
            is_new = True
        return is_new

    cdef int give_up_reader(self, double now) except -1:
        self.end_backlog()
        self.endpoint.fail(1013, "too slow for what is sent to all", now=now)
        return 0

    cdef int write_frame_log(self) except -1:
        """Log the frames that came and went since the last call."""
        cdef Endpoint endpoint = self.endpoint
        cdef object log = self.frame_log    # another thread may end it meanwhile
        cdef unsigned int depth
        if log is None or endpoint is None or not endpoint.frame_log:
            return 0
        frames = endpoint.take_frames()
        depth = put_down(&self.lock)
        try:
            log.write(frames)
        finally:
            take_up(&self.lock, depth)
        return 0

    def _tap(self, log, Py_ssize_t payload):
        """Have frames noted for `log`, an object with `write` as `FrameLog` has; None for nobody.

        Args:
            log: who gets them from now on.
            payload: how many bytes of each payload.

        Returns:
            Who got them so far, or None. To put that back is the caller's.
        """
        before = self.frame_log
        if self.endpoint is None:
            raise RuntimeError("there are no frames before the connection is open")
        self.endpoint.record_frames(-1 if log is None else payload)
        self.frame_log = log
        return before

    def _lasted(self):
        """Return for how many seconds the connection was open; None while it is."""
        return None if self.ended_at == 0 else max(self.ended_at - self.opened_at, 0.0)

    def _is_stalled(self):
        """Tell whether a wait for the peer expired, and nothing has come from it since."""
        cdef Endpoint endpoint = self.find_endpoint()
        return endpoint is not None and self.expired_at > endpoint.now

    def _sample(self):
        """Return what changes while a connection is used, as plain numbers: cheaper than `stats`.

        Returns:
            Messages received and sent; bytes of their frames, and of their payloads, likewise; messages queued, and
            their bytes; bytes unsent, and held in all; broadcasts dropped; the last round trip in microseconds, -1
            before the first.
        """
        cdef Endpoint endpoint = self.endpoint
        cdef size_t unsent
        if endpoint is None:
            raise RuntimeError("there is nothing to count before the connection is open")
        unsent = self.unsent_size()
        return (
            endpoint.received_messages, endpoint.sent_messages, endpoint.received_wire, endpoint.sent_wire,
            endpoint.received_payload, endpoint.sent_payload, endpoint.messages.count, endpoint.message_bytes,
            unsent, endpoint.held - output_size(&endpoint.output) + self.backlog_bytes + unsent + self.stream.unsent,
            self.dropped,
            -1 if endpoint.round_trip < 0 else <int64_t>(endpoint.round_trip * 1e6),
        )

    def __repr__(self):
        take_lock(&self.lock)
        try:
            is_open = self.endpoint is not None and self.opened is not None
            state = self.endpoint.state.name if is_open else "not connected"
            subprotocol = f" {self.agreed}" if self.agreed else ""
        finally:
            give_lock(&self.lock)
        return f"<lapwing.{type(self).__name__}{subprotocol} {state} peer={self.peer_address}>"

    cdef int write(self, Output *output) except -1:
        cdef size_t own
        cdef Py_ssize_t count
        cdef Stream stream = self.stream    # held: with TLS this may run Python code, which may use this connection
        cdef bint is_secure = stream.tls is not None
        # Before more is encrypted, what is left goes. What a native session made by itself can go with the rest.
        if is_secure and (stream.unsent or not output_size(output) or not stream.tls.is_native) and not stream.push():
            return 0
        while output_size(output):
            own = buffer_size(&output.head)
            if own:
                count = stream.send(output.head.data + output.head.start, own, output.payload, output.payload_size)
            else:
                count = stream.send(output.payload, output.payload_size, NULL, 0)
            self.endpoint.consume(output, count)    # before anything else runs
            if stream.is_full or (is_secure and not stream.push()):
                break
        return 0

    cdef int cut_off(self) noexcept:
        c_shutdown(self.stream.fd, SHUT_RDWR)
        return 0


def close_after(error):
    """Choose close code and reason for leaving a `with` block: how the block ended tells."""
    if error is None:
        return (1000, "")
    if isinstance(error, Exception):
        return (1011, "")
    return (1001, "")


def make_endpoint(role, settings):
    """Make the endpoint of a connection with these settings."""
    return Endpoint(
        role,
        max_message_size=settings.max_message_size,
        max_buffered=settings.max_buffered,
        close_timeout=settings.closing,
        holds_large=True,
    )
