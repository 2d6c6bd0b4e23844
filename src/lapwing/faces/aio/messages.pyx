"""Forms of messages other than `receive` and `send`, in the asyncio face.

These are messages in fragments and in pieces, several at once, into a buffer, as JSON. They stand on the driver: each
call is a coroutine, which waits and then takes the present input, without waiting in between. So one that is cancelled
has taken nothing.
"""

import asyncio

cimport cython

from ...io.clock cimport clock
from ...native.instant cimport NEVER
from ...protocol.engine cimport Engine
from ...protocol.limits cimport MUCH_OUTPUT
from ...protocol.state cimport CLOSED, OPEN
from ...protocol.streamed cimport StreamedMessage
from ...protocol.streaming cimport NO_LIMIT
from ..connection cimport BaseConnection
from ..life cimport note_end
from .driver cimport LIVE, OVER, Driver, not_connected
from .waiting cimport Waiter, end_wait

from ...protocol.close import ended_well
from ..messages import BROKEN_OFF, FragmentCheck, fragments_of

__all__ = ["MessageStream"]


cdef enum:
    # So many fragments of an ordinary iterable go out at once; then other tasks have their turn.
    FRAGMENTS_IN_A_ROW = 32


# --- receiving -----------------------------------------------------------------------------------------------------


async def arrival(Driver driver, timeout):
    """Wait until there is a message, or there will be no more."""
    if not has_arrived(driver):
        await news(driver, timeout, None)
    elif driver.engine.waiting() == 0:
        await tell_end(driver)


async def tell_end(Driver driver):
    """Let the event loop run before a call that finds the connection at its end says so."""
    note_end(driver)
    await asyncio.sleep(0)


async def news(Driver driver, timeout, MessageStream stream):
    """Wait until there is a whole message, or a part of a stream."""
    cdef double seconds = driver.seconds_of(timeout)
    cdef double deadline = clock() + seconds if seconds >= 0 else NEVER
    cdef Waiter waiter
    while True:
        driver.require_no_receiver()
        waiter = driver.receiver = driver.wait(
            max(deadline - clock(), 0) if deadline < NEVER else -1,
            "no message came" if stream is None else "nothing more of the message came")
        if stream is not None:
            stream.is_waited_for = True
        try:
            await waiter
        finally:
            if driver.receiver is waiter:
                driver.receiver = None
            end_wait(waiter)
            if stream is not None:
                stream.is_waited_for = False
        if has_arrived(driver) if stream is None else stream.has_arrived():
            return


cdef bint has_arrived(Driver driver) except -1:
    """Tell whether there is a message, or there will be no more."""
    cdef Engine engine = driver.engine
    if engine is None:
        return driver.require_open()
    if engine.streamed() is not None or (engine.is_held() and engine.waiting() == 0):
        driver.want_whole()
    if engine.waiting() or engine.phase == CLOSED or driver.phase == OVER:
        return True
    driver.require_open()
    return False


cdef object end_of_messages(Driver driver, bint iterating):
    if not iterating:
        return None
    if ended_well(driver.engine.closed()):
        raise StopAsyncIteration
    raise driver.engine.closed_error()


cdef list take_messages(Driver driver, Py_ssize_t limit):
    """Take the messages that are at hand, but at most `limit`; less than 0 for all."""
    cdef list messages = in_use(driver).pop_all(limit)
    driver.resume()
    return messages


cdef Engine in_use(Driver driver):
    """Return the engine, which goes when another task connects and fails."""
    if driver.engine is None:
        raise not_connected()
    return driver.engine


cdef bint has_ended(Driver driver) except -1:
    """Tell whether there is no message, and there will be none."""
    cdef Engine engine = in_use(driver)
    return engine.waiting() == 0 and (engine.phase == CLOSED or driver.phase == OVER)


@cython.final
@cython.no_gc_clear
cdef class MessageStream:
    """A message that is read in pieces, as they come: `str` for TEXT, cut between characters, `bytes` for BINARY.

    How it is cut up is as it happened to arrive; no piece is empty. The iteration ends with the message, and raises
    `ConnectionClosed` when the connection ends before. Once the connection is closed there is no next message: then it
    ends at once after a clean close with 1000, 1001 or no code, or raises `ConnectionClosed`, as iterating over the
    connection does.

    When it is left early, by `close`, at the end of `async with` or by letting go of it, the rest of the message is
    skipped, and the next `receive` gets the next message. Until then `receive` is refused.

    A wait for a piece that is cancelled or expires takes nothing with it: the iteration can go on. Not thread-safe.
    """

    def __cinit__(self, BaseConnection connection not None, limit, timeout):
        if limit is not None and limit < 1:
            raise ValueError(f"expected a limit from 1 byte up, or None for no limit, got {limit!r}")
        self.driver = connection.reader
        self.limit = limit
        self.timeout = timeout

    @property
    def opcode(self):
        """`lapwing.TEXT` or `lapwing.BINARY`; None before the message has begun."""
        return None if self.streamed is None else self.streamed.opcode

    async def _begin(self):
        """Wait for the message to begin; returns whether it did, rather than the connection ended."""
        cdef Driver driver = self.driver
        if self.streamed is not None:
            return True
        if self.is_closed:
            raise RuntimeError("this stream is closed: call receive_stream() for each message")
        driver.require_open()
        driver.require_no_receiver()
        self.engine = driver.engine
        if not self.has_arrived():
            try:
                await news(driver, self.timeout, self)
            except BaseException:
                if self.streamed is None:
                    self.engine.forget_stream()
                    driver.resume()
                raise
        elif self.streamed is None:
            await tell_end(driver)
        return self.streamed is not None

    cdef bint has_arrived(self) except -1:
        """Tell whether there is something of the message, or there will be nothing."""
        cdef Engine engine = self.engine
        if self.is_closed:
            return True
        if engine is None:
            raise not_connected()
        if self.streamed is not None:
            if engine.is_broken() and not self.streamed.pieces:
                engine.refuse_held(clock())
                self.driver.resume()
            return (
                self.streamed.pieces or self.streamed.is_complete or engine.phase == CLOSED
                or self.driver.phase == OVER)
        self.streamed = engine.begin_stream(NO_LIMIT if self.limit is None else self.limit)
        if self.streamed is not None or engine.phase == CLOSED:
            self.driver.resume()
            return True
        return engine.phase == CLOSED or self.driver.phase == OVER

    async def _piece(self):
        """Wait for a piece; None at the end of the message."""
        cdef StreamedMessage streamed = self.streamed
        if not self.has_arrived():
            await news(self.driver, self.timeout, self)
        if self.is_closed:
            return None
        if streamed.pieces:
            piece = self.engine.pop_piece(streamed)
            self.driver.resume()
            return piece
        if streamed.is_complete:
            return None
        self.close()
        raise self.engine.closed_error()

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
                if not ended_well(self.engine.closed()):
                    raise self.engine.closed_error()
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
        """Skip the rest of the message. Does not wait; nothing happens when there is nothing left."""
        self.is_closed = True
        if self.is_waited_for and self.driver.receiver is not None:
            self.driver.receiver.wake()
        if self.streamed is not None:
            self.engine.skip_stream(self.streamed)
            if self.engine is self.driver.engine:
                self.driver.resume()

    def __del__(self):
        cdef object loop
        if self.streamed is None or self.engine.streamed() is not self.streamed:
            return
        loop = self.driver._loop
        if asyncio._get_running_loop() is loop:
            self.close()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(self.close)

    def __repr__(self):
        return f"<message in pieces from {self.driver!r}>"


# --- sending -------------------------------------------------------------------------------------------------------


async def send_fragments(Driver driver, message, opcode, compress, timeout):
    """Send a message of fragments.

    From the first one to the last one it has the first place among those who wait to send, so all others wait.
    """
    driver.require_open()     # it may be awaited later than it was called
    cdef Engine engine = driver.engine
    cdef Waiter place = queue_up(driver, timeout)
    cdef int count = 0
    cdef bint has_begun = False
    try:
        if engine.phase != OPEN or (
            driver.senders[0] is place and engine.unsent() < MUCH_OUTPUT
        ):
            place.is_done = True    # it is the first, and there is room
            end_wait(place)
        await place
        if engine.phase != OPEN:
            raise engine.closed_error()
        has_begun = True
        driver.fragmenter = asyncio.current_task()
        if hasattr(type(message), "__aiter__"):
            check = FragmentCheck(opcode).check
            async for fragment in message:
                if engine.unsent() >= MUCH_OUTPUT:
                    await room(driver, engine, timeout)
                engine.push_fragment(check(fragment), False, opcode, compress)
                driver.send_soon()
            engine.push_fragment(b"", True, opcode, compress)
        else:
            for fragment, fin in fragments_of(message, opcode):
                if engine.unsent() >= MUCH_OUTPUT:
                    await room(driver, engine, timeout)
                engine.push_fragment(fragment, fin, opcode, compress)
                count += 1
                # Once the last one is accepted nothing can be cancelled any more.
                if not fin and (
                    count % FRAGMENTS_IN_A_ROW == 0 or engine.unsent() >= MUCH_OUTPUT
                ):
                    driver.send_soon()
                    await asyncio.sleep(0)
    except BaseException:
        if has_begun:
            break_off(driver, engine)
        raise
    finally:
        if has_begun and driver.engine is engine:
            driver.fragmenter = None
        leave_queue(driver, place)


async def room(Driver driver, Engine engine, timeout):
    """Wait until there is room for the next fragment; this one waits in front of all others."""
    cdef Waiter waiter
    if engine.phase != OPEN:
        return
    waiter = driver.wait(driver.seconds_of(timeout), "the peer did not read enough to send more")
    driver.senders.insert(0, waiter)
    driver.send_soon()
    try:
        await waiter
    finally:
        end_wait(waiter)
        leave(driver, waiter)


cdef int break_off(Driver driver, Engine engine) except -1:
    """Fail the connection when a message was begun that will not be finished."""
    if engine.is_in_message() and engine.phase == OPEN:
        engine.fail(BROKEN_OFF[0], BROKEN_OFF[1], clock())
        driver.act_on_state()
    return 0


cdef Waiter queue_up(Driver driver, object timeout):
    cdef Waiter waiter
    if driver.fragmenter is not None and driver.fragmenter is asyncio.current_task():
        raise RuntimeError(
            "this task is sending a message of fragments: its iterable must not send another one")
    waiter = driver.wait(driver.seconds_of(timeout), "the peer did not read enough to send more")
    if driver.senders is None:
        driver.senders = []
    driver.senders.append(waiter)
    return waiter


cdef int leave_queue(Driver driver, Waiter waiter) except -1:
    end_wait(waiter)
    leave(driver, waiter)
    if not driver.senders:
        driver.senders = None
    if driver.phase == LIVE:
        driver.send_soon()
        driver.wake_sender()
    return 0


cdef int leave(Driver driver, Waiter waiter) except -1:
    """Take it from those who wait to send, unless it waited on a connection before this one."""
    if driver.senders is not None and waiter in driver.senders:
        driver.senders.remove(waiter)
    return 0
