"""What a connection of the blocking face does with messages beside `receive` and `send`.

These are messages in fragments and in pieces, several at once, into a buffer, as JSON.

While a thread sends a message of fragments, the others stand in line: their messages must not come between. Who wants
to send looks at `line`, which costs nothing while there is none.
"""

import threading

cimport cython

from .blocking_link cimport BlockingLink
from ..io.clock cimport clock
from ..protocol.endpoint cimport Endpoint
from ..protocol.inbound cimport HELD_BACK, RULE_BROKEN
from ..native.callers cimport callers_add, callers_enter, callers_leave, callers_remove
from ..native.sharing cimport put_down, take_up
from ..protocol.state cimport OPEN
from ..protocol.streaming cimport NO_LIMIT
from .turns cimport begin_call, end_call

from .messages import BROKEN_OFF, fragments_of, nested_too_deeply, require_count, writable
from ..options import UNSET
from ..protocol.frame import TEXT

__all__ = ["BlockingMessageStream", "Messages"]


@cython.no_gc_clear
cdef class Messages(BlockingLink):
    """A connection's messages; `BlockingConnection` is what to use."""

    cdef bint await_message(self, object timeout, object stream, unsigned long call) except -1:
        raise NotImplementedError

    cdef int send_fragment(self, object fragment, bint fin, object opcode, object compress, double deadline) except -1:
        raise NotImplementedError

    # --- receiving -------------------------------------------------------------------------------------------------

    def receive_many(self, limit=None, *, timeout=UNSET):
        """Wait for a message, and take all that are at hand.

        Args:
            limit: how many to take at most; None for all.
            timeout: seconds to wait for the first one, None for ever; the connection's `timeout` by default.

        Returns:
            The messages in a list, each as from `receive`; an empty one once the connection is closed, as often as
            `receive` returns None.

        Raises:
            TimeoutError, ConnectionClosed, RuntimeError: as for `receive`.
            TypeError, ValueError: the limit is no number of messages.

        One thread at a time may be in this or another method that receives.
        """
        cdef Py_ssize_t most = require_count(limit)
        cdef unsigned long call = begin_call(self)
        try:
            return self.await_messages(most, timeout, call)
        finally:
            end_call(self, call)

    cdef list await_messages(self, Py_ssize_t limit, object timeout, unsigned long call):
        """Wait for messages and take them; none at the end. What runs between these two may take them, too."""
        cdef list messages = []
        while not messages and self.await_message(timeout, None, call):
            messages = self.take_messages(limit)
        return messages

    def receive_into(self, buffer, *, timeout=UNSET):
        """Wait for the next message and copy it into a buffer: TEXT in UTF-8.

        Args:
            buffer: a bytes-like object to write into, a `bytearray` or `memoryview` say.
            timeout: seconds to wait, None for ever; the connection's `timeout` by default.

        Returns:
            How many bytes it has; None once the connection is closed, as often as from `receive`.

        Raises:
            ValueError: the buffer is too small. The error names the size, and the next call gets the message.
            TypeError: the buffer cannot be written to.
            TimeoutError, ConnectionClosed, RuntimeError: as for `receive`.

        One thread at a time may be in this or another method that receives.
        """
        writable(buffer)
        cdef object size = None
        cdef unsigned long call = begin_call(self)
        try:
            while size is None and self.await_message(timeout, None, call):
                size = self.endpoint.take_message_into(writable(buffer))
                self.took()
        finally:
            end_call(self, call)
        return size

    def receive_json(self, *, timeout=UNSET):
        """Wait for the next message and decode it from JSON.

        The option `json` says by what; the message may be TEXT or BINARY.

        Args:
            timeout: seconds to wait, None for ever; the connection's `timeout` by default.

        Returns:
            What the message says; None is JSON's `null`.

        Raises:
            ConnectionClosed: the connection is closed.
            ValueError: it is not JSON, or nested too deeply. The connection stays usable, and the next call gets the
                next message.
            TimeoutError, RuntimeError: as for `receive`.

        One thread at a time may be in this or another method that receives.
        """
        cdef list messages
        cdef unsigned long call = begin_call(self)
        try:
            messages = self.await_messages(1, timeout, call)
            if not messages:
                raise self.endpoint.closed_error()
        finally:
            end_call(self, call)
        message = messages[0]
        try:
            return self._settings.json_functions[1](message)
        except RecursionError:
            raise nested_too_deeply(message) from None

    def receive_stream(self, limit=None, *, timeout=UNSET):
        """Wait for the next message to begin, and read it in pieces, as they come.

        `max_message_size` does not apply: memory is bounded by `max_buffered`, whatever the length of the message. When
        you lag, lapwing stops reading from the peer.

        Args:
            limit: bytes that the message may have, None for any number. A larger one fails the connection with 1009.
            timeout: seconds to wait for its beginning, and for each piece, None for ever; the connection's `timeout` by
                default.

        Returns:
            The `BlockingMessageStream` to iterate over; None once the connection is closed, as from `receive`.

        Raises:
            ValueError: the limit is less than 1 byte.
            TimeoutError, RuntimeError: as for `receive`.

        One thread at a time may be in this or another method that receives.
        """
        cdef BlockingMessageStream stream
        cdef unsigned long call = begin_call(self)
        try:
            stream = BlockingMessageStream(self, limit, timeout)
            self.await_beginning(stream, timeout, call)
        finally:
            end_call(self, call)
        return None if stream.inflow is None else stream

    cdef int await_beginning(self, BlockingMessageStream stream, object timeout, unsigned long call) except -1:
        cdef Endpoint endpoint = stream.endpoint
        try:
            self.await_message(timeout, stream, call)
        finally:
            if stream.inflow is None:
                endpoint.forget_stream()
                self.took()
        return 0

    cdef int refuse_nested(self) except -1:
        """Refuse a nested call that would have to wait, perhaps for its own thread."""
        raise RuntimeError(
            "this call would have to wait within another call of the same connection, which it interrupted as a signal "
            "handler, a finalizer or a logging handler does: only send(), close() and abort() work there")

    cdef bint has_arrived(self, object stream) except -1:
        cdef Endpoint endpoint = self.endpoint
        if stream is not None:
            return (<BlockingMessageStream>stream).has_arrived()
        if endpoint.inflow is not None or (endpoint.route >= HELD_BACK and endpoint.messages.count == 0):
            self.want_whole()
        return endpoint.messages.count > 0

    cdef int want_whole(self) except -1:
        cdef Endpoint endpoint = self.endpoint
        if endpoint.inflow is not None:
            raise RuntimeError(
                "a message is being read in pieces by receive_stream(): read it to its end, or close that stream first")
        if endpoint.phase == OPEN and not endpoint.wants_stream:
            endpoint.refuse_held(clock())
            self.took()
        return 0

    cdef list take_messages(self, Py_ssize_t limit):
        """Take the messages that are at hand, but at most `limit`; less than 0 for all."""
        cdef list messages = self.endpoint.pop_messages(limit)
        self.took()
        return messages

    cdef int took(self) except -1:
        """Act on what taking something led to: what waited undecoded, which others may wait for."""
        self.resume()
        return self.tell()

    # --- sending ---------------------------------------------------------------------------------------------------

    def send_json(self, value, *, compress=None, timeout=UNSET):
        """Send a value as a TEXT message in JSON.

        The option `json` says by what it is encoded.

        Args:
            value: what `dumps` of the codec takes.
            compress, timeout: as for `send`.

        Raises:
            TypeError, ValueError: what the codec raises when it cannot encode the value. Nothing was sent.
            ConnectionClosed, TimeoutError: as for `send`.

        Any number of threads may call it.
        """
        return self.send(self._settings.json_functions[0](value), TEXT, compress=compress, timeout=timeout)

    cdef object send_fragments(
        self, object message, object opcode, object compress, object timeout, unsigned long call
    ):
        """Send a message of fragments, first in the line from the first one to the last one."""
        cdef double deadline = self.deadline_of(timeout, call)
        cdef object place
        if self.line is None:
            self.line = []
        place = self.queue_up(deadline)
        try:
            self.await_pushes(deadline)
            self.require_room(deadline)
            self.fragmenter = threading.get_ident()
            fragments = fragments_of(message, opcode)
            while True:
                step = self.next_fragment(fragments, call)
                if step is None:
                    break
                self.send_fragment(step[0], step[1], opcode, compress, self.deadline_of(timeout, call))
        except BaseException:
            if self.fragmenter is not None and self.endpoint.sending_opcode and self.endpoint.phase == OPEN:
                self.fail(BROKEN_OFF[0], BROKEN_OFF[1])
            raise
        finally:
            self.fragmenter = None
            self.leave_line(place)
            if self.backlog is not None:
                self.left_over()    # broadcasts have waited for the end of the message
        return None

    cdef object next_fragment(self, object fragments, unsigned long call):
        """Get the next one, for which a program may take its time, and use the connection."""
        cdef unsigned int depth
        if call and not callers_leave(&self.callers, call):
            callers_remove(&self.callers, call)
        depth = put_down(&self.lock)
        try:
            return next(fragments, None)
        finally:
            take_up(&self.lock, depth)
            if call and not callers_enter(&self.callers, call) and callers_add(&self.callers, call) < 0:
                raise MemoryError

    cdef int await_pushes(self, double deadline) except -1:
        """Wait until no other thread is in the middle of queueing a message."""
        cdef unsigned long seen
        while True:
            seen = self.changes
            if self.pushes == 0:
                return 0
            if deadline == 0:
                self.refuse_nested()
            self.await_change(seen, deadline)

    cdef object queue_up(self, double deadline):
        cdef unsigned long seen
        cdef object place = object()
        if self.fragmenter is not None and self.fragmenter == threading.get_ident():
            raise RuntimeError(
                "this thread is sending a message of fragments: what it iterates over must not send another one")
        if self.line and deadline == 0:
            self.refuse_nested()
        self.line.append(place)
        try:
            while True:
                seen = self.changes
                if self.line[0] is place or self.endpoint.phase != OPEN:
                    return place
                self.await_change(seen, deadline)
        except BaseException as error:
            self.leave_line(place)
            if isinstance(error, TimeoutError):
                raise TimeoutError("the message was not sent: another one, of fragments, took too long") from None
            raise

    cdef int leave_line(self, object place) except -1:
        if place is not None:
            self.line.remove(place)
            if not self.line:
                self.line = None
        return self.tell()


@cython.final
@cython.no_gc_clear
cdef class BlockingMessageStream:
    """A message that is read in pieces, as they come: `str` for TEXT, cut between characters, `bytes` for BINARY.

    How it is cut up is as it happened to arrive; no piece is empty. The iteration ends with the message, and raises
    `ConnectionClosed` when the connection ends before.

    Whoever leaves it early, by `close`, at the end of `with` or by letting go of it, has the rest of the message
    skipped, and the next `receive` gets the next message. Until then `receive` is refused.

    A `TimeoutError` takes nothing with it: the iteration can go on.
    """

    def __cinit__(self, Messages connection not None, limit, timeout):
        if limit is not None and limit < 1:
            raise ValueError(f"expected a limit from 1 byte up, or None for no limit, got {limit!r}")
        connection.require_open()
        self.connection = connection
        self.endpoint = connection.endpoint
        self.limit = limit
        self.timeout = timeout

    @property
    def opcode(self):
        """`lapwing.TEXT` or `lapwing.BINARY`; None before the message has begun."""
        return None if self.inflow is None else self.inflow.opcode

    cdef bint has_arrived(self) except -1:
        """Tell whether there is something of the message."""
        if self.is_closed or self.endpoint is not self.connection.endpoint:
            return True
        if self.inflow is not None:
            if self.endpoint.route == RULE_BROKEN and not self.inflow.pieces:
                self.endpoint.refuse_held(clock())
                self.connection.took()
            return self.inflow.pieces or self.inflow.is_complete
        self.inflow = self.endpoint.begin_inflow(NO_LIMIT if self.limit is None else self.limit)
        return self.inflow is not None

    def __iter__(self):
        return self

    def __next__(self):
        cdef unsigned long call = begin_call(self.connection)
        try:
            return self.next_piece(call)
        finally:
            end_call(self.connection, call)

    cdef object next_piece(self, unsigned long call):
        if not self.has_arrived():
            self.connection.await_message(self.timeout, self, call)
        if self.is_closed:
            raise StopIteration
        if self.inflow is None:
            raise self.endpoint.closed_error()
        if self.inflow.pieces:
            piece = self.endpoint.pop_piece(self.inflow)
            self.connection.took()
            return piece
        if self.inflow.is_complete:
            raise StopIteration
        self.close()
        raise self.endpoint.closed_error()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.close()

    def close(self):
        """Skip what is left of the message. Does not wait; nothing happens when there is nothing left."""
        cdef unsigned long call = begin_call(self.connection)
        try:
            self.is_closed = True
            if self.inflow is not None:
                self.endpoint.drop_inflow(self.inflow)
                if self.endpoint is self.connection.endpoint:
                    self.connection.took()
        finally:
            end_call(self.connection, call)

    def __del__(self):
        if self.inflow is not None and self.endpoint.inflow is self.inflow:
            self.close()

    def __repr__(self):
        return f"<message in pieces from {self.connection!r}>"
