"""What a connection of the asyncio face does with messages beside `receive` and `send`.

These are messages in fragments and in pieces, several at once, into a buffer, as JSON. None of it is as quick as
`receive`: each call is a coroutine, which waits and then takes what is there, without waiting in between. So one that
is cancelled has taken nothing.
"""

import asyncio

cimport cython

from ..io.clock cimport clock
from ..io.reactor cimport READABLE
from .link cimport LIVE, OVER
from .opening_link cimport OpeningLink
from ..protocol.endpoint cimport Endpoint
from ..protocol.inbound cimport HELD_BACK, RULE_BROKEN
from ..protocol.limits cimport MUCH_OUTPUT
from ..protocol.outbound cimport output_size
from ..protocol.state cimport CLOSED, OPEN
from ..protocol.streaming cimport NO_LIMIT, Inflow
from .waiting cimport Waiter, end_wait

from .messages import BROKEN_OFF, FragmentCheck, fragments_of, nested_too_deeply, require_count, writable
from ..options import UNSET
from ..protocol.close import ended_well
from ..protocol.frame import TEXT

__all__ = ["MessageStream", "Messages"]


cdef enum:
    # So many fragments of an ordinary iterable go out at once; then other tasks have their turn.
    FRAGMENTS_IN_A_ROW = 32


@cython.no_gc_clear
cdef class Messages(OpeningLink):
    """A connection's messages; `Connection` is what to use."""

    # --- receiving -------------------------------------------------------------------------------------------------

    async def receive_many(self, limit=None, *, timeout=UNSET):
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

        Cancelling loses nothing. Not thread-safe.
        """
        cdef Py_ssize_t most = require_count(limit)
        cdef list messages
        while True:
            await self._arrival(timeout)
            messages = self.take_messages(most)
            if messages or self.has_ended():    # a finalizer may have taken what there was
                return messages

    async def receive_into(self, buffer, *, timeout=UNSET):
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

        Cancelling loses nothing. Not thread-safe.
        """
        writable(buffer)
        while True:
            await self._arrival(timeout)
            size = self.in_use().take_message_into(writable(buffer))
            self.resume()
            if size is not None or self.has_ended():
                return size

    async def receive_json(self, *, timeout=UNSET):
        """Wait for the next message and decode it from JSON.

        The option `json` says by what; the next message may be TEXT or BINARY.

        Args:
            timeout: seconds to wait, None for ever; the connection's `timeout` by default.

        Returns:
            What the message says; None is JSON's `null`.

        Raises:
            ConnectionClosed: the connection is closed; the event loop runs before this is said.
            ValueError: it is not JSON, or nested too deeply. The connection stays usable, and the next call gets the
                next message.
            TimeoutError, RuntimeError: as for `receive`.

        Cancelling loses nothing. Not thread-safe.
        """
        cdef list messages = []
        while not messages:
            await self._arrival(timeout)
            messages = self.take_messages(1)
            if not messages and self.has_ended():
                raise self.endpoint.closed_error()
        message = messages[0]
        try:
            return self._settings.json_functions[1](message)
        except RecursionError:
            raise nested_too_deeply(message) from None

    def receive_stream(self, limit=None, *, timeout=UNSET):
        """Read the next message in pieces, as they come.

        Awaited, it waits for the message to begin, and gives its `MessageStream`, or None once the connection is
        closed, as `receive` does, and as often. `async for` goes through the pieces at once; `async with` does as
        awaiting does, and skips what is left of the message at the end of the block.

        `max_message_size` does not apply: memory is bounded by `max_buffered`, whatever the length of the message. When
        you lag, lapwing stops reading from the peer.

        Args:
            limit: bytes that the message may have, None for any number. A larger one fails the connection with 1009.
            timeout: seconds to wait for its beginning, and for each piece, None for ever; the connection's `timeout` by
                default.

        Raises:
            ValueError: the limit is less than 1 byte.

        Not thread-safe.
        """
        return MessageStream(self, limit, timeout)

    async def _arrival(self, timeout):
        """Wait until there is a message, or there will be no more."""
        if not self.has_arrived():
            await self._news(timeout, None)
        elif self.endpoint.messages.count == 0:
            await self._end()

    async def _end(self):
        """Let the event loop run before a call that finds the connection at its end says so."""
        self.note_end()
        await asyncio.sleep(0)

    async def _news(self, timeout, MessageStream stream):
        """Wait until there is what is wanted: a whole message, or something of a stream."""
        cdef double seconds = self.seconds_of(timeout)
        cdef double deadline = clock() + seconds if seconds >= 0 else 0
        cdef Waiter waiter
        while True:
            self.require_no_receiver()
            waiter = self.receiver = self.wait(
                max(deadline - clock(), 0) if deadline else -1,
                "no message came" if stream is None else "nothing more of the message came")
            if stream is not None:
                stream.is_waited_for = True
            try:
                await waiter
            finally:
                if self.receiver is waiter:
                    self.receiver = None
                end_wait(waiter)
                if stream is not None:
                    stream.is_waited_for = False
            if self.has_arrived() if stream is None else stream.has_arrived():
                return

    cdef bint has_arrived(self) except -1:
        """Tell whether there is a message, or there will be no more."""
        cdef Endpoint endpoint = self.endpoint
        if endpoint is None:
            return self.require_open()
        if endpoint.inflow is not None or (endpoint.route >= HELD_BACK and endpoint.messages.count == 0):
            self.want_whole()
        if endpoint.messages.count or endpoint.phase == CLOSED or self.phase == OVER:
            return True
        self.require_open()
        return False

    cdef int want_whole(self) except -1:
        cdef Endpoint endpoint = self.endpoint
        if endpoint.inflow is not None:
            raise RuntimeError(
                "a message is being read in pieces by receive_stream(): read it to its end, or close that stream first")
        if endpoint.phase == OPEN and not endpoint.wants_stream:
            endpoint.refuse_held(clock())
            self.settle()
        return 0

    cdef int require_no_receiver(self) except -1:
        if self.receiver is not None and not self.receiver.is_done:
            raise RuntimeError(
                "another task waits in receive() of this connection: one at a time can have the next message")
        return 0

    cdef object take_message(self):
        cdef bint held = self.endpoint.undecoded.end != 0
        if self.endpoint.inflow is not None:
            self.want_whole()
        message = self.endpoint.pop_message()
        if held or self.interest & READABLE == 0:
            self.settle()
        return message

    cdef object end_of_messages(self, bint iterating):
        if not iterating:
            return None
        if ended_well(self.endpoint.closed):
            raise StopAsyncIteration
        raise self.endpoint.closed_error()

    cdef list take_messages(self, Py_ssize_t limit):
        """Take the messages that are at hand, but at most `limit`; less than 0 for all."""
        cdef list messages = self.in_use().pop_messages(limit)
        self.resume()
        return messages

    cdef Endpoint in_use(self):
        """Return the endpoint, which goes when another task connects and fails."""
        if self.endpoint is None:
            raise not_connected()
        return self.endpoint

    cdef bint has_ended(self) except -1:
        """Tell whether there is no message, and there will be none."""
        cdef Endpoint endpoint = self.in_use()
        return endpoint.messages.count == 0 and (endpoint.phase == CLOSED or self.phase == OVER)

    cdef int resume(self) except -1:
        """Act on what taking something led to: room to read on, or what waited undecoded."""
        return self.settle() if self.phase == LIVE else 0

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

        Cancelling is as for `send`. Not thread-safe.
        """
        return self.send(self._settings.json_functions[0](value), TEXT, compress=compress, timeout=timeout)

    async def _send_fragments(self, message, opcode, compress, timeout):
        """Send a message of fragments.

        From the first one to the last one it has the first place among those who wait to send, so all others wait.
        """
        self.require_open()     # it may be awaited later than it was called
        cdef Endpoint endpoint = self.endpoint
        cdef Waiter place = self.queue_up(timeout)
        cdef int count = 0
        cdef bint has_begun = False
        try:
            if endpoint.phase != OPEN or (
                self.senders[0] is place and output_size(&endpoint.output) < MUCH_OUTPUT
            ):
                place.is_done = True    # nobody is in front, and there is room
                end_wait(place)
            await place
            if endpoint.phase != OPEN:
                raise endpoint.closed_error()
            has_begun = True
            self.fragmenter = asyncio.current_task()
            if hasattr(type(message), "__aiter__"):
                check = FragmentCheck(opcode).check
                async for fragment in message:
                    if output_size(&endpoint.output) >= MUCH_OUTPUT:
                        await self._room(endpoint, timeout)
                    endpoint.send_fragment(check(fragment), fin=False, opcode=opcode, compress=compress)
                    self.send_soon()
                endpoint.send_fragment(b"", fin=True, opcode=opcode, compress=compress)
            else:
                for fragment, fin in fragments_of(message, opcode):
                    if output_size(&endpoint.output) >= MUCH_OUTPUT:
                        await self._room(endpoint, timeout)
                    endpoint.send_fragment(fragment, fin=fin, opcode=opcode, compress=compress)
                    count += 1
                    # Once the last one is accepted nothing can be cancelled any more.
                    if not fin and (
                        count % FRAGMENTS_IN_A_ROW == 0 or output_size(&endpoint.output) >= MUCH_OUTPUT
                    ):
                        self.send_soon()
                        await asyncio.sleep(0)
        except BaseException:
            if has_begun:
                self.break_off(endpoint)
            raise
        finally:
            if has_begun and self.endpoint is endpoint:
                self.fragmenter = None
            self.leave_queue(place)

    async def _room(self, Endpoint endpoint, timeout):
        """Wait until there is room for the next fragment; this one waits in front of all others."""
        cdef Waiter waiter
        if endpoint.phase != OPEN:
            return
        waiter = self.wait(self.seconds_of(timeout), "the peer did not read enough to send more")
        self.senders.insert(0, waiter)
        self.send_soon()
        try:
            await waiter
        finally:
            end_wait(waiter)
            self.leave(waiter)

    cdef int break_off(self, Endpoint endpoint) except -1:
        """Fail the connection when a message was begun that will not be finished."""
        if endpoint.sending_opcode and endpoint.phase == OPEN:
            endpoint.fail(BROKEN_OFF[0], BROKEN_OFF[1], now=clock())
            self.settle()
        return 0

    cdef Waiter queue_up(self, object timeout):
        cdef Waiter waiter
        if self.fragmenter is not None and self.fragmenter is asyncio.current_task():
            raise RuntimeError(
                "this task is sending a message of fragments: what it iterates over must not send another one")
        waiter = self.wait(self.seconds_of(timeout), "the peer did not read enough to send more")
        if self.senders is None:
            self.senders = []
        self.senders.append(waiter)
        return waiter

    cdef int leave_queue(self, Waiter waiter) except -1:
        end_wait(waiter)
        self.leave(waiter)
        if not self.senders:
            self.senders = None
        if self.phase == LIVE:
            self.send_soon()
            self.wake_sender()
        return 0

    cdef int leave(self, Waiter waiter) except -1:
        """Take it from those who wait to send, unless it waited on a connection before this one."""
        if self.senders is not None and waiter in self.senders:
            self.senders.remove(waiter)
        return 0

    # --- what both need --------------------------------------------------------------------------------------------

    cdef double seconds_of(self, object timeout) except? -2:
        """Turn a `timeout` argument into seconds, negative for never."""
        if timeout is UNSET:
            return self.own_timeout
        return -1 if timeout is None else max(<double>timeout, 0.0)

    cdef int require_open(self) except -1:
        """Refuse what needs a connection when there never was one."""
        if self.phase < LIVE:
            raise not_connected()
        return 0


cdef object not_connected():
    return RuntimeError("this client is not connected: await client.connect(url) first")


@cython.final
@cython.no_gc_clear
cdef class MessageStream:
    """A message that is read in pieces, as they come: `str` for TEXT, cut between characters, `bytes` for BINARY.

    How it is cut up is as it happened to arrive; no piece is empty. The iteration ends with the message, and raises
    `ConnectionClosed` when the connection ends before. Once the connection is closed there is no next message: then it
    ends at once after a clean close with 1000, 1001 or no code, or raises `ConnectionClosed`, as iterating over the
    connection does.

    Whoever leaves it early, by `close`, at the end of `async with` or by letting go of it, has the rest of the message
    skipped, and the next `receive` gets the next message. Until then `receive` is refused.

    A wait for a piece that is cancelled or expires takes nothing with it: the iteration can go on. Not thread-safe.
    """

    def __cinit__(self, Messages connection not None, limit, timeout):
        if limit is not None and limit < 1:
            raise ValueError(f"expected a limit from 1 byte up, or None for no limit, got {limit!r}")
        self.connection = connection
        self.limit = limit
        self.timeout = timeout

    @property
    def opcode(self):
        """`lapwing.TEXT` or `lapwing.BINARY`; None before the message has begun."""
        return None if self.inflow is None else self.inflow.opcode

    async def _begin(self):
        """Wait for the message to begin; returns whether it did, rather than the connection ended."""
        cdef Messages connection = self.connection
        if self.inflow is not None:
            return True
        if self.is_closed:
            raise RuntimeError("this stream is closed: call receive_stream() for each message")
        connection.require_open()
        connection.require_no_receiver()
        self.endpoint = connection.endpoint
        if not self.has_arrived():
            try:
                await connection._news(self.timeout, self)
            except BaseException:
                if self.inflow is None:
                    self.endpoint.forget_stream()
                    connection.resume()
                raise
        elif self.inflow is None:
            await connection._end()
        return self.inflow is not None

    cdef bint has_arrived(self) except -1:
        """Tell whether there is something of the message, or there will be nothing."""
        cdef Endpoint endpoint = self.endpoint
        if self.is_closed:
            return True
        if endpoint is None:
            raise not_connected()
        if self.inflow is not None:
            if endpoint.route == RULE_BROKEN and not self.inflow.pieces:
                endpoint.refuse_held(clock())
                self.connection.resume()
            return (
                self.inflow.pieces or self.inflow.is_complete or endpoint.phase == CLOSED
                or self.connection.phase == OVER)
        self.inflow = endpoint.begin_inflow(NO_LIMIT if self.limit is None else self.limit)
        if self.inflow is not None or endpoint.phase == CLOSED:
            self.connection.resume()
            return True
        return endpoint.phase == CLOSED or self.connection.phase == OVER

    async def _piece(self):
        """Wait for a piece; None at the end of the message."""
        cdef Inflow inflow = self.inflow
        if not self.has_arrived():
            await self.connection._news(self.timeout, self)
        if self.is_closed:
            return None
        if inflow.pieces:
            piece = self.endpoint.pop_piece(inflow)
            self.connection.resume()
            return piece
        if inflow.is_complete:
            return None
        self.close()
        raise self.endpoint.closed_error()

    def __await__(self):
        return self._beginning().__await__()

    async def _beginning(self):
        return self if await self._begin() else None

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.is_closed:
            has_begun = await self._begin()
            if not has_begun:
                if not ended_well(self.endpoint.closed):
                    raise self.endpoint.closed_error()
                raise StopAsyncIteration
        piece = await self._piece()
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def __aenter__(self):
        return await self._beginning()

    async def __aexit__(self, kind, error, traceback):
        self.close()

    def __iter__(self):
        raise TypeError("this stream is awaited: write 'async for' instead of 'for'")

    def close(self):
        """Skip what is left of the message. Does not wait; nothing happens when there is nothing left."""
        self.is_closed = True
        if self.is_waited_for and self.connection.receiver is not None:
            self.connection.receiver.wake()
        if self.inflow is not None:
            self.endpoint.drop_inflow(self.inflow)
            if self.endpoint is self.connection.endpoint:
                self.connection.resume()

    def __del__(self):
        cdef object loop
        if self.inflow is None or self.endpoint.inflow is not self.inflow:
            return
        loop = self.connection._loop
        if asyncio._get_running_loop() is loop:
            self.close()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(self.close)

    def __repr__(self):
        return f"<message in pieces from {self.connection!r}>"
