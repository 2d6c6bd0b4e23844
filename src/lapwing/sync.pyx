"""The blocking face: a client whose methods wait in the calling thread.

There is no thread behind it. Whoever waits, waits in the kernel with the GIL released: in `recv` for messages, in
`poll` for room to send. Everything between two waits (decoding, queueing) happens while the GIL is held and so is one
step for other threads.

Two roles are taken by one thread at a time: reading (`is_reading`) and sending (`is_sending`). Frames enter the
endpoint's output in the order of the calls; the thread that is sending takes all of it over into `unsent` and sends
that, so another may go on queueing meanwhile. `receive`, `ping` and `close` read, and so does `send` while it waits for
room, because the peer may be waiting for that. A thread that finds its role taken waits until something changes, and
looks again.

Time-outs of reads are the descriptor's own (SO_RCVTIMEO), set anew only when they change: a read is one system call.

Whoever reads also keeps the connection alive: the read ends when a ping is due, or its answer. Time in which nobody
reads is left out of the peer's silence.
"""

import sys
import threading
import warnings

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.errno cimport EPIPE
from libc.time cimport time_t

from .connection cimport BaseConnection
from .io.reactor cimport clock
from .io.stream cimport END_OF_STREAM, NOTHING_YET, Stream
from .protocol.endpoint cimport Ping, output_clear, output_size
from .protocol.state cimport CLOSE, CLOSED, DROP, OPEN, SHUT_DOWN

from .connection import close_after, make_endpoint
from . import route
from .opening import ClientOpening
from .options import UNSET, ClientSettings, settings_from
from .protocol.errors import HandshakeError
from .protocol.state import Role

__all__ = ["Client"]


cdef extern from "<poll.h>" nogil:
    cdef struct pollfd:
        int fd
        short events
        short revents
    enum:
        POLLIN
        POLLOUT
    int c_poll "poll"(pollfd *descriptors, unsigned long count, int milliseconds)


cdef extern from "<sys/time.h>" nogil:
    cdef struct timeval:
        time_t tv_sec
        long tv_usec


cdef extern from "<sys/socket.h>" nogil:
    enum:
        SOL_SOCKET
        SO_RCVTIMEO
        SHUT_RDWR
    int setsockopt(int fd, int level, int option, const void *value, unsigned int size)
    int c_shutdown "shutdown"(int fd, int how)


cdef enum:
    # One read: large enough for several messages of 64 KiB, small enough to stay in a core's cache.
    READ_SIZE = 256 * 1024


# A deadline that never comes, and the longest wait, in seconds, that `threading` takes.
cdef double NEVER = 1e300
cdef double LONGEST_WAIT = 1e6

# How long a call that learns of the end waits for the peer to close TCP first, in seconds: nobody could do so later.
cdef double LONGEST_LINGER = 1.0


@cython.no_gc_clear
cdef class Client(BaseConnection):
    """A blocking WebSocket client.

    Iterating over it gives the messages: the iteration ends after a clean close and raises `ConnectionClosed` after
    another. As a context manager it closes at the end of the block. After the connection is closed, `connect` may be
    called again. Attributes of your own can be set on it.

    Threads: one may receive while any number of others send, ping or close. Pings of the peer are answered inside
    `receive`, `send` and the other waiting methods; a program that calls none of them for long answers none for as
    long. Likewise the pings of `ping_interval` are sent, and the peer's silence is measured, while one of them waits:
    time between the calls does not count.

    Processes: use it in one process only. A child that `os.fork` makes must not touch a client of its parent's, since
    both would read the same stream; one that `multiprocessing` spawns makes its own.

    Args:
        **options: see `lapwing.options.ClientOptions`.

    Raises:
        TypeError: an option does not exist or has the wrong type.
        ValueError: an option is out of its range.
    """

    def __cinit__(self):
        self.changed = threading.Condition()

    def __init__(self, **options):
        self._settings = settings_from(ClientSettings, options)
        if self._settings.portable:
            raise ValueError("portable is an option of AsyncClient: a blocking client has no event loop")

    def __dealloc__(self):
        output_clear(&self.unsent)
        PyMem_Free(self.buffer)
        if self.is_connected:
            warn_unclosed()

    # --- connecting ------------------------------------------------------------------------------------------------

    def connect(self, url, protocol=None, *, timeout=UNSET):
        """Connect to a server (RFC 6455 sections 3 and 4).

        Args:
            url: `ws://host[:port]/path?query`, or `wss://` for TLS; `ws+unix:///path/of/socket:/path?query`, or
                `wss+unix://`, for a unix socket.
            protocol: a subprotocol to ask for, or a sequence of them in the order of preference.
            timeout: seconds for all of it (proxy, redirects and handshakes), None for ever; `open_timeout` by default.
                The time that the system takes to resolve the host's name cannot be cut short.

        Returns:
            This client.

        Raises:
            InvalidURL: the URL is not one of a WebSocket server.
            HandshakeError: the server refused, or does not speak WebSocket, or redirects to where the client does not
                go; `ProxyError` where a proxy was the reason.
            TimeoutError: it took too long.
            OSError: there was no connection; `ssl.SSLError` where TLS was the reason.
            RuntimeError: the client is connected already.

        After a failure nothing is left open. Not to be called from two threads at once.
        """
        if self.is_connected:
            raise RuntimeError("this client is connected already: close it first, or make another one")
        warn_of_loop()
        opening = ClientOpening(self._settings, url, protocol)
        seconds = self._settings.opening if timeout is UNSET else timeout
        cdef double deadline = NEVER if seconds is None else clock() + <double>seconds
        try:
            while not self.is_connected:
                self.attempt(opening, deadline)
        except OSError as error:
            if clock() >= deadline:
                raise TimeoutError(f"connecting to {opening.url} took longer than {seconds:g} s") from None
            raise opening.explain(error)
        finally:
            if not self.is_connected:
                self.opened = None
        return self

    cdef int attempt(self, object opening, double deadline) except -1:
        """Connect to where `opening` leads; a redirect makes it lead elsewhere."""
        try:
            self.open_stream(opening, deadline)
            if opening.first.is_tunnel:
                self.converse(opening.first, deadline)
                self.stream.tls = opening.enter_tunnel(self.stream.tls)
            self.converse(opening.handshake, deadline)
            self.begin(opening.handshake)
        except HandshakeError as error:
            opening.follow(error)
        finally:
            if not self.is_connected and self.stream is not None:
                self.stream.close()
        return 0

    cdef int open_stream(self, object opening, double deadline) except -1:
        """Get a socket that leads there and set up everything for a new connection."""
        self.opened = self.subprotocol = self.stream = None
        sock = route.take_blocking(opening, None if deadline == NEVER else deadline)
        self.stream = Stream(sock.detach(), is_blocking=True)
        self.stream.tls = opening.first_tls()
        self.endpoint = make_endpoint(Role.CLIENT, self._settings)
        self.is_shut = False
        self.receive_limit = 0
        output_clear(&self.unsent)
        if self.buffer is NULL:
            self.buffer = <unsigned char *>PyMem_Malloc(READ_SIZE)
            if self.buffer is NULL:
                raise MemoryError
        return 0

    cdef int converse(self, object handshake, double deadline) except -1:
        """Do a handshake: the one that opens the connection, or the one with a proxy; before it that of TLS."""
        cdef Py_ssize_t count
        while self.stream.tls is not None and not self.stream.tls.established:
            try:
                self.stream.tls.handshake()
            finally:
                self.push_output(deadline)  # the next flight, or the alert that tells the peer why
            if not self.stream.tls.established and self.read_some(deadline, NULL, 0) == END_OF_STREAM:
                raise ConnectionResetError("the connection ended during the TLS handshake")
        self.endpoint.push_bytes(handshake.data_to_send())
        self.push_output(deadline)
        while True:
            count = self.read_some(deadline, NULL, 0)
            if count == END_OF_STREAM:
                handshake.receive_eof()
            if count > 0 and handshake.receive_data((<char *>self.buffer)[:count]):
                return 0

    cdef int begin(self, object handshake) except -1:
        """Begin with messages, now that the opening handshake is done."""
        self.opened = handshake
        self.subprotocol = handshake.subprotocol
        self.attended_at = clock()
        self.begin_life(self.attended_at)
        self.is_connected = True
        if handshake.rest:
            self.endpoint.receive_data(handshake.rest, clock())
        return 0

    # --- messages --------------------------------------------------------------------------------------------------

    def receive(self, *, timeout=UNSET):
        """Wait for the next message (RFC 6455 section 6.2).

        Args:
            timeout: seconds to wait, None for ever; the client's `timeout` by default.

        Returns:
            `str` for a TEXT message, `bytes` for a BINARY one, None once the connection is closed, whoever closed it
            and even if the network failed: then `closed` tells how. Messages that came before the end are returned
            first.

        Raises:
            TimeoutError: no message came in time. None is lost: the next `receive` gets it.
            RuntimeError: another thread is in `receive`, or there was no `connect`.

        The call that learns of the end gives the peer up to a second to close TCP first, and closes the descriptor. A
        signal handler that raises, as Ctrl-C does, ends the wait; nothing is lost.
        """
        if self.endpoint is not None and self.endpoint.messages.count:
            return self.take_message()
        self.require_open()
        cdef double deadline = self.deadline_of(timeout)
        cdef unsigned long seen
        if self.is_receiving:
            raise RuntimeError("another thread is in receive() of this client: one at a time can have the next message")
        self.is_receiving = True
        try:
            while True:
                seen = self.changes
                if self.endpoint.messages.count:
                    return self.take_message()
                if not self.is_connected:
                    return None
                if self.is_reading:
                    self.await_change(seen, deadline)
                elif self.endpoint.phase == CLOSED:
                    self.end(deadline)
                else:
                    self.read_alone(deadline)
        finally:
            self.is_receiving = False

    cdef object take_message(self):
        """Take a message that is there."""
        message = self.endpoint.pop_message()
        if output_size(&self.endpoint.output) and not self.is_sending and self.is_connected:
            self.send_output(0)  # answers to pings that waited among the messages
        return message

    def __iter__(self):
        return self

    def __next__(self):
        message = self.receive()
        if message is not None:
            return message
        if self.endpoint.closed.was_clean:
            raise StopIteration
        raise self.endpoint.closed_error()

    def send(self, message, opcode=None, *, timeout=UNSET):
        """Send a message (RFC 6455 section 6.1), and wait until the kernel has taken it.

        Args:
            message: `str` goes out as TEXT, bytes-like as BINARY.
            opcode: `lapwing.TEXT` or `lapwing.BINARY` overrides that; bytes sent as TEXT must be valid UTF-8.
            timeout: seconds to wait, None for ever; the client's `timeout` by default.

        Raises:
            ConnectionClosed: the connection is closed, or is being closed by this end.
            TimeoutError: the peer did not read enough in time. What the message says about this one holds: either it
                was not sent, because earlier ones still wait, or it waits now and goes out with the next call. It is
                never cut off in the middle.
            TypeError: the message is neither `str` nor bytes-like.
            ValueError: the opcode is neither TEXT nor BINARY, or bytes for TEXT are not UTF-8.

        Any number of threads may call it; each message goes out whole.
        """
        self.require_open()
        cdef double deadline = self.deadline_of(timeout)
        if output_size(&self.unsent) and not self.is_sending and self.send_output(deadline) == LATE:
            raise TimeoutError(
                "the message was not sent: the peer did not read enough to finish an earlier one in time")
        self.endpoint.push_message(message, opcode)
        cdef SendOutcome outcome = self.send_output(deadline)
        if outcome == LATE:
            raise TimeoutError(
                "the peer did not read enough in time: the message waits, and goes out with the next call")
        if outcome == BROKEN:
            raise self.endpoint.closed_error()

    def ping(self, payload=None, *, timeout=UNSET):
        """Send a ping and wait for its pong (RFC 6455 section 5.5.2).

        Args:
            payload: at most 125 bytes, `str` or bytes-like; by default one that differs from the last ones.
            timeout: seconds to wait, None for ever; the client's `timeout` by default.

        Returns:
            The round trip in seconds.

        Raises:
            ConnectionClosed: the connection is closed, or closed before the pong came.
            TimeoutError: no pong came in time.
            ValueError: the payload is longer than 125 bytes.
            RuntimeError: `max_buffered` bytes of messages wait in front of the pong: receive them first.

        Messages that come before the pong wait for `receive`. Any number of threads may call it.
        """
        self.require_open()
        cdef double deadline = self.deadline_of(timeout)
        cdef Ping ping = self.endpoint.ping(payload, clock())
        cdef unsigned long seen
        try:
            self.send_output(deadline)
            while True:
                seen = self.changes
                if ping.round_trip is not None or self.endpoint.phase != OPEN:
                    break
                if self.is_reading:
                    self.await_change(seen, deadline)
                elif self.endpoint.is_paused():
                    raise RuntimeError(
                        "more messages wait than max_buffered allows, in front of the pong: receive them first")
                else:
                    self.read_alone(deadline)
        finally:
            self.endpoint.forget_ping(ping)
        if ping.round_trip is None:
            raise self.endpoint.closed_error()
        return ping.round_trip

    def close(self, code=1000, str reason not None="", *, timeout=None):
        """Close the connection (RFC 6455 section 7): the closing handshake, then TCP.

        Args:
            code: the close code: 1000 to 1003, 1007 to 1014 or 3000 to 4999.
            reason: the close reason, at most 123 bytes in UTF-8.
            timeout: seconds that the peer has for its part; the client's `close_timeout` by default.

        Returns:
            `Closed(was_clean, code, reason)`; the same again when called again. A peer that does not answer in time
            gives `Closed(False, 1006, ...)`.

        Raises:
            ValueError: the code must not be sent, or the reason is too long.
            RuntimeError: there was no `connect`.

        Messages that still come are discarded. May be called while another thread receives.
        """
        self.require_open()
        if timeout is not None:
            self.endpoint.close_timeout = timeout
        self.endpoint.close(code, reason, clock())
        cdef double deadline = clock() + self.endpoint.close_timeout
        cdef unsigned long seen
        try:
            if self.send_output(deadline) == LATE:
                raise TimeoutError
            while True:
                seen = self.changes
                if not self.is_connected:
                    break
                if self.is_reading:
                    self.await_change(seen, deadline)
                elif self.endpoint.phase == CLOSED:
                    self.end(deadline)
                else:
                    self.read_alone(deadline)
        except TimeoutError:
            self.endpoint.tick(NEVER)
            self.end(deadline)
        return self.endpoint.closed

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if self.is_connected:
            self.close(*close_after(error))

    async def __aenter__(self):
        raise TypeError("this client is blocking: write 'with' instead of 'async with', or use lapwing.AsyncClient")

    async def __aexit__(self, kind, error, traceback):
        pass

    def __aiter__(self):
        raise TypeError("this client is blocking: write 'for' instead of 'async for', or use lapwing.AsyncClient")

    def __await__(self):
        raise TypeError("this client is blocking: leave out 'await', or use lapwing.AsyncClient")

    cdef int require_open(self) except -1:
        """Refuse what needs a connection when there never was one."""
        if self.opened is None:
            raise RuntimeError("this client is not connected: call client.connect(url) first")
        return 0

    cdef double deadline_of(self, object timeout) except? -1:
        if timeout is UNSET:
            timeout = self._settings.timeout
        return NEVER if timeout is None else clock() + <double>timeout

    # --- input -----------------------------------------------------------------------------------------------------

    cdef int read_alone(self, double deadline) except -1:
        """Take the role of reading for one read."""
        self.is_reading = True
        try:
            return self.read(deadline)
        finally:
            self.is_reading = False
            self.tell()

    cdef int read(self, double deadline) except -1:
        """Read once and act on what came. Raises TimeoutError when nothing came by the deadline."""
        cdef size_t room_size = 0
        cdef unsigned char *room = self.endpoint.payload_room(&room_size)
        cdef Py_ssize_t count
        cdef double due
        self.endpoint.excuse(clock() - self.attended_at)
        due = self.endpoint.silence_due()
        try:
            count = self.read_some(min(deadline, due), room, room_size if room is not NULL else 0)
        except TimeoutError:
            self.attended_at = clock()
            if deadline <= due:
                raise
            return self.attend(due)
        except OSError as error:
            return self.lose(f"the connection was lost: {error.strerror or error}")
        self.take_input(count, room, room_size)
        if output_size(&self.endpoint.output) and not self.is_sending:
            self.send_output(0 if self.endpoint.phase == OPEN else deadline)
        if self.frame_log is not None:
            self.write_frame_log()
        return 0

    cdef int attend(self, double due) except -1:
        """Act on the peer's silence: a ping is due, or its answer."""
        cdef double now = max(clock(), due)
        self.endpoint.excuse(now - due)     # stopped or starved, this process may wake late
        cdef bint has_pinged = self.keep_alive(now, 0)
        if output_size(&self.endpoint.output) and not self.is_sending:
            self.send_output(0)
        if has_pinged:
            self.note_ping()
        return 0

    cdef size_t unsent_size(self) noexcept:
        return output_size(&self.unsent) + output_size(&self.endpoint.output)

    cdef Py_ssize_t read_some(self, double deadline, unsigned char *room, size_t room_size) except -2:
        """Wait for bytes: returns how many came, or END_OF_STREAM; NOTHING_YET when only TLS went on."""
        cdef double left = 0
        cdef timeval limit
        if deadline != NEVER:
            left = max(deadline - clock(), 1e-6)
        if left != self.receive_limit and (deadline == NEVER or abs(left - self.receive_limit) > 1e-3 * left):
            limit.tv_sec = <time_t>left
            limit.tv_usec = <long>((left - limit.tv_sec) * 1e6)
            if left and limit.tv_sec == 0 and limit.tv_usec == 0:
                limit.tv_usec = 1
            setsockopt(self.stream.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit))
            self.receive_limit = left
        cdef Py_ssize_t count = self.stream.receive(room, room_size, self.buffer, READ_SIZE)
        if count == NOTHING_YET and deadline != NEVER and clock() >= deadline - 2e-3 * left:
            raise TimeoutError("nothing came in time")
        return count

    cdef int take_input(self, Py_ssize_t count, unsigned char *room, size_t room_size) except -1:
        cdef double now = clock()
        self.attended_at = now
        if count == NOTHING_YET:
            return 0
        if count == END_OF_STREAM:
            return self.lose(
                "the TLS stream was cut off: it ended without its close notice" if self.stream.was_cut
                else "the connection ended without a close frame")
        if room is NULL:
            self.endpoint.feed(self.buffer, count, now)
        else:
            self.endpoint.payload_received(min(<size_t>count, room_size), now)
            if <size_t>count > room_size:
                self.endpoint.feed(self.buffer, count - room_size, now)
        return 0

    cdef int lose(self, str reason) except -1:
        self.endpoint.receive_eof(reason)
        return 0

    cdef int end(self, double deadline) except -1:
        """Go on with the end of the connection as `Ending` says, at most until the deadline, and close the
        descriptor."""
        cdef unsigned long seen
        deadline = min(deadline, clock() + min(self.endpoint.close_timeout, LONGEST_LINGER))
        if self.endpoint.end == CLOSE:  # the peer is silent: it is told, and not waited for
            self.send_output(0)
            self.endpoint.end = DROP
        if self.endpoint.end != DROP and not self.is_reading:
            self.is_reading = True
            try:
                self.send_output(deadline)
                if self.endpoint.end == SHUT_DOWN:
                    self.stream.shut_down()
                while self.read_some(deadline, NULL, 0) != END_OF_STREAM:
                    pass
            except OSError:
                pass  # the deadline passed, or the peer was quicker to forget the connection
            finally:
                self.is_reading = False
        if self.endpoint.end == DROP:
            # Wakes the threads that wait for it: they must be gone before it is closed.
            c_shutdown(self.stream.fd, SHUT_RDWR)
        while True:
            seen = self.changes
            if not self.is_connected:
                return 0
            if not self.is_reading and not self.is_sending:
                break
            self.await_change(seen, NEVER)
        self.is_connected = False
        self.stream.close()
        PyMem_Free(self.buffer)
        self.buffer = NULL
        return self.tell()

    # --- output ----------------------------------------------------------------------------------------------------

    cdef SendOutcome send_output(self, double deadline) except SEND_RAISED:
        """Send all output, after another thread's, at most until the deadline (0: without waiting)."""
        cdef unsigned long seen
        while True:
            seen = self.changes
            if not self.is_connected:
                return BROKEN
            if not self.is_sending:
                break
            try:
                self.await_change(seen, deadline)
            except TimeoutError:
                return LATE
        self.is_sending = True
        try:
            return DONE if self.push_output(deadline) else LATE
        except OSError as error:
            self.lose(f"the connection was lost: {error.strerror or error}")
            output_clear(&self.unsent)
            return BROKEN
        finally:
            self.is_sending = False
            self.tell()
            if self.frame_log is not None:
                self.write_frame_log()

    cdef bint push_output(self, double deadline) except -1:
        """Send all output; returns whether it was done by the deadline. Raises OSError when the stream is broken."""
        while True:
            if self.endpoint.end == DROP or (self.endpoint.end == CLOSE and self.stream.is_full):
                raise BrokenPipeError(EPIPE, "the connection ended")
            if output_size(&self.unsent) == 0:
                self.unsent = self.endpoint.take_output()
            self.write(&self.unsent)
            if self.stream.is_full:
                if clock() >= deadline:
                    return False
                self.wait_for_room(deadline)
            elif output_size(&self.unsent) == 0 and output_size(&self.endpoint.output) == 0:
                self.endpoint.output_sent(0)
                if output_size(&self.endpoint.output) == 0:
                    return True

    cdef int wait_for_room(self, double deadline) except -1:
        """Wait until the kernel takes more. Meanwhile read, when nobody else does: the peer may be waiting for that."""
        cdef pollfd descriptor
        cdef int milliseconds = -1
        cdef bint reads = self.is_connected and not self.is_reading and self.endpoint.wants_input
        cdef double due = NEVER
        descriptor.fd = self.stream.fd
        descriptor.events = POLLOUT | (POLLIN if reads else 0)
        descriptor.revents = 0
        if reads:
            self.is_reading = True
            self.endpoint.excuse(clock() - self.attended_at)
            due = self.endpoint.silence_due()
        if min(deadline, due) < NEVER:
            milliseconds = <int>min(max((min(deadline, due) - clock()) * 1e3 + 1, 0), 1e9)
        try:
            with nogil:
                c_poll(&descriptor, 1, milliseconds)
            PyErr_CheckSignals()
            if reads and descriptor.revents & POLLIN:
                self.take_input(self.read_some(NEVER, NULL, 0), NULL, 0)
            elif reads:
                self.attended_at = clock()
                if self.attended_at >= due:
                    self.attend(due)
        finally:
            if reads:
                self.is_reading = False
                self.tell()
        return 0

    # --- other threads ---------------------------------------------------------------------------------------------

    cdef int tell(self) except -1:
        """Let the threads that wait for this one's work look again."""
        self.changes += 1
        if self.onlookers:
            with self.changed:
                self.changed.notify_all()
        return 0

    cdef int await_change(self, unsigned long seen, double deadline) except -1:
        """Wait until `changes` differs from `seen`, which was read before what made waiting necessary was looked at."""
        cdef double left = deadline - clock()
        if left <= 0:
            raise TimeoutError("another thread's call took too long")
        self.onlookers += 1
        try:
            with self.changed:
                if self.changes == seen:
                    self.changed.wait(min(left, LONGEST_WAIT))
        finally:
            self.onlookers -= 1
        return 0


cdef int warn_unclosed() except -1:
    warnings.warn("a lapwing client was never closed: use 'with', or call close()", ResourceWarning, stacklevel=1)
    return 0


cdef int warn_of_loop() except -1:
    """Say it where a blocking client would stop an event loop."""
    events = sys.modules.get("asyncio.events")
    if events is not None and events._get_running_loop() is not None:
        warnings.warn(
            "a blocking client in a running event loop stops everything else: use lapwing.AsyncClient, or "
            "'async with lapwing.connect(...)'; or call it in a thread with asyncio.to_thread",
            RuntimeWarning, stacklevel=2)
    return 0
