"""Forms of messages other than `receive` and `send`, in the blocking face.

These are messages in fragments and in pieces, several at once, into a buffer, as JSON. They stand on the driver. All is
called between `begin_call` and `end_call`.

While a thread sends a message of fragments, the others stand in line: their messages must not come between. A call that
wants to send looks at `line`, which costs nothing while there is none.
"""

import threading

cimport cython

from ...io.clock cimport clock
from ...native.callers cimport callers_add, callers_enter, callers_leave, callers_remove
from ...native.sharing cimport put_down, take_up
from ...protocol.engine cimport Engine
from ...protocol.state cimport CLOSED, OPEN
from ...protocol.streaming cimport NO_LIMIT
from ..connection cimport BaseConnection
from ..life cimport note_end
from .driver cimport AT_ONCE, BROKEN, LATE, Driver, SendOutcome, begin_call, end_call

from ..messages import BROKEN_OFF, fragments_of

__all__ = ["BlockingMessageStream"]


# --- receiving -----------------------------------------------------------------------------------------------------


cdef bint await_message(Driver driver, object timeout, BlockingMessageStream stream, unsigned long call) except -1:
    """Wait for a message, or for something of a stream; returns whether it came, rather than the connection
    ended."""
    driver.require_open()
    cdef double deadline = driver.deadline_of(timeout, call)
    cdef unsigned long seen
    cdef bint has_waited = False
    if driver.is_receiving:
        raise RuntimeError(
            "another call is in receive() of this connection, in another thread or around this one: one at a time "
            "can have the next message")
    driver.is_receiving = True
    try:
        while True:
            seen = driver.changes
            if has_arrived(driver, stream):
                return True
            if not driver.is_connected:
                if not has_waited:
                    note_end(driver)
                return False
            if not call:
                refuse_nested(driver)
            has_waited = True
            if driver.is_reading:
                driver.await_turn(seen, deadline)
            elif driver.engine.phase == CLOSED:
                driver.end(deadline)
            else:
                driver.read_alone(seen, deadline)
    finally:
        driver.is_receiving = False


cdef bint has_arrived(Driver driver, BlockingMessageStream stream) except -1:
    cdef Engine engine = driver.engine
    if stream is not None:
        return stream.has_arrived()
    if engine.streamed() is not None or (engine.is_held() and engine.waiting() == 0):
        want_whole(driver)
    return engine.waiting() > 0


cdef int want_whole(Driver driver) except -1:
    cdef Engine engine = driver.engine
    if engine.streamed() is not None:
        raise RuntimeError(
            "a message is being read in pieces by receive_stream(): read it to its end, or close that stream first")
    if engine.phase == OPEN and not engine.awaits_stream():
        engine.refuse_held(clock())
        took(driver)
    return 0


cdef object take_message(Driver driver):
    """Take a message that is there."""
    cdef bint decodes = driver.engine.has_undecoded()
    if driver.engine.streamed() is not None:
        want_whole(driver)
    message = driver.engine.pop()
    if decodes:
        driver.tell()
    driver.resume()
    return message


cdef list take_messages(Driver driver, Py_ssize_t limit):
    """Take the messages that are at hand, but at most `limit`; less than 0 for all."""
    cdef list messages = driver.engine.pop_all(limit)
    took(driver)
    return messages


cdef int took(Driver driver) except -1:
    """Act on what taking something led to: what waited undecoded, which others may wait for."""
    driver.resume()
    return driver.tell()


cdef list await_messages(Driver driver, Py_ssize_t limit, object timeout, unsigned long call):
    """Wait for messages and take them; none at the end. What runs between these two may take them, too."""
    cdef list messages = []
    while not messages and await_message(driver, timeout, None, call):
        messages = take_messages(driver, limit)
    return messages


cdef int await_beginning(Driver driver, BlockingMessageStream stream, object timeout, unsigned long call) except -1:
    cdef Engine engine = stream.engine
    try:
        await_message(driver, timeout, stream, call)
    finally:
        if stream.streamed is None:
            engine.forget_stream()
            took(driver)
    return 0


cdef int refuse_nested(Driver driver) except -1:
    """Refuse a nested call that would have to wait, perhaps for its own thread."""
    raise RuntimeError(
        "this call would have to wait within another call of the same connection, which it interrupted as a signal "
        "handler, a finalizer or a logging handler does: only send(), close() and abort() work there")


@cython.final
@cython.no_gc_clear
cdef class BlockingMessageStream:
    """A message that is read in pieces, as they come: `str` for TEXT, cut between characters, `bytes` for BINARY.

    How it is cut up is as it happened to arrive; no piece is empty. The iteration ends with the message, and raises
    `ConnectionClosed` when the connection ends before.

    When it is left early, by `close`, at the end of `with` or by letting go of it, the rest of the message is
    skipped, and the next `receive` gets the next message. Until then `receive` is refused.

    A `TimeoutError` takes nothing with it: the iteration can go on.
    """

    def __cinit__(self, BaseConnection connection not None, limit, timeout):
        cdef Driver driver = connection.reader
        if limit is not None and limit < 1:
            raise ValueError(f"expected a limit from 1 byte up, or None for no limit, got {limit!r}")
        driver.require_open()
        self.driver = driver
        self.engine = driver.engine
        self.limit = limit
        self.timeout = timeout

    @property
    def opcode(self):
        """`lapwing.TEXT` or `lapwing.BINARY`; None before the message has begun."""
        return None if self.streamed is None else self.streamed.opcode

    cdef bint has_arrived(self) except -1:
        """Tell whether there is something of the message."""
        if self.is_closed or self.engine is not self.driver.engine:
            return True
        if self.streamed is not None:
            if self.engine.is_broken() and not self.streamed.pieces:
                self.engine.refuse_held(clock())
                took(self.driver)
            return self.streamed.pieces or self.streamed.is_complete
        self.streamed = self.engine.begin_stream(NO_LIMIT if self.limit is None else self.limit)
        return self.streamed is not None

    def __iter__(self):
        return self

    def __next__(self):
        cdef unsigned long call = begin_call(self.driver)
        try:
            return self.next_piece(call)
        finally:
            end_call(self.driver, call)

    cdef object next_piece(self, unsigned long call):
        if not self.has_arrived():
            await_message(self.driver, self.timeout, self, call)
        if self.is_closed:
            raise StopIteration
        if self.streamed is None:
            raise self.engine.closed_error()
        if self.streamed.pieces:
            piece = self.engine.pop_piece(self.streamed)
            took(self.driver)
            return piece
        if self.streamed.is_complete:
            raise StopIteration
        self.close()
        raise self.engine.closed_error()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.close()

    def close(self):
        """Skip the rest of the message. Does not wait; nothing happens when there is nothing left."""
        cdef unsigned long call = begin_call(self.driver)
        try:
            self.is_closed = True
            if self.streamed is not None:
                self.engine.skip_stream(self.streamed)
                if self.engine is self.driver.engine:
                    took(self.driver)
        finally:
            end_call(self.driver, call)

    def __del__(self):
        if self.streamed is not None and self.engine.streamed() is self.streamed:
            self.close()

    def __repr__(self):
        return f"<message in pieces from {self.driver!r}>"


# --- sending -------------------------------------------------------------------------------------------------------


cdef int send_fragment(
    Driver driver, object fragment, bint fin, object opcode, object compress, double deadline
) except -1:
    driver.engine.push_fragment(fragment, fin, opcode, compress)
    cdef SendOutcome outcome = driver.send_output(deadline)
    if outcome == LATE and deadline != AT_ONCE:
        raise TimeoutError(
            "the peer did not read enough in time: "
            + ("the message waits, and goes out with the next call" if fin else "the message was broken off"))
    if outcome == BROKEN:
        raise driver.engine.closed_error()
    return 0


cdef object send_fragments(
    Driver driver, object message, object opcode, object compress, object timeout, unsigned long call
):
    """Send a message of fragments, first in the line from the first one to the last one."""
    cdef double deadline = driver.deadline_of(timeout, call)
    cdef object place
    if driver.line is None:
        driver.line = []
    place = queue_up(driver, deadline)
    try:
        await_pushes(driver, deadline)
        driver.require_room(deadline)
        driver.fragmenter = threading.get_ident()
        fragments = fragments_of(message, opcode)
        while True:
            step = next_fragment(driver, fragments, call)
            if step is None:
                break
            send_fragment(driver, step[0], step[1], opcode, compress, driver.deadline_of(timeout, call))
    except BaseException:
        if driver.fragmenter is not None and driver.engine.is_in_message() and driver.engine.phase == OPEN:
            driver.fail(BROKEN_OFF[0], BROKEN_OFF[1])
        raise
    finally:
        driver.fragmenter = None
        leave_line(driver, place)
        if driver.backlog is not None:
            driver.left_over()    # broadcasts have waited for the end of the message
    return None


cdef object next_fragment(Driver driver, object fragments, unsigned long call):
    """Get the next one, for which a program may take its time, and use the connection."""
    cdef unsigned int depth
    if call and not callers_leave(&driver.callers, call):
        callers_remove(&driver.callers, call)
    depth = put_down(&driver.lock)
    try:
        return next(fragments, None)
    finally:
        take_up(&driver.lock, depth)
        if call and not callers_enter(&driver.callers, call) and callers_add(&driver.callers, call) < 0:
            raise MemoryError


cdef int await_pushes(Driver driver, double deadline) except -1:
    """Wait until no other thread is in the middle of queueing a message."""
    cdef unsigned long seen
    while True:
        seen = driver.changes
        if driver.pushes == 0:
            return 0
        if deadline == AT_ONCE:
            refuse_nested(driver)
        driver.await_change(seen, deadline)


cdef object queue_up(Driver driver, double deadline):
    cdef unsigned long seen
    cdef object place = object()
    if driver.fragmenter is not None and driver.fragmenter == threading.get_ident():
        raise RuntimeError(
            "this thread is sending a message of fragments: its iterable must not send another one")
    if driver.line and deadline == AT_ONCE:
        refuse_nested(driver)
    driver.line.append(place)
    try:
        while True:
            seen = driver.changes
            if driver.line[0] is place or driver.engine.phase != OPEN:
                return place
            driver.await_change(seen, deadline)
    except BaseException as error:
        leave_line(driver, place)
        if isinstance(error, TimeoutError):
            raise TimeoutError("the message was not sent: another one, of fragments, took too long") from None
        raise


cdef int leave_line(Driver driver, object place) except -1:
    if place is not None:
        driver.line.remove(place)
        if not driver.line:
            driver.line = None
    return driver.tell()
