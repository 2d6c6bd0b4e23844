"""The opening of a connection that a reactor drives: it has the conversation of `opening` on the stream.

The conversation knows the rules, and a server's program the answer to a request. This module moves the bytes, asks and
tells the owner, and begins the connection.
"""

from cpython.pythread cimport PyThread_get_thread_ident

from ...io.clock cimport clock
from ...io.reactor cimport READABLE
from ...io.stream cimport END_OF_STREAM, NOTHING_YET, Stream
from ...io.watching cimport carry, reactor_of
from ..life cimport begin_life
from ...native.instant cimport NEVER
from ...native.sharing cimport IS_FREE_THREADED
from ...opening.conversation cimport Opening
from ...opening.outcome cimport Failed, Open, Refused
from .driver cimport DECIDING, FORGOTTEN_AFTER, LIVE, OPENING, OVER, Driver, Stage, connection_of
from .waiting cimport Waiter

__all__ = ["OpeningStage"]


cdef extern from "<unistd.h>" nogil:
    int c_getpid "getpid"()


cdef str UNREAD = "the peer does not read the answers of TLS that it asks for"


cdef int begin(Driver driver, Stream stream, Opening opening) except -1:
    driver.stream = stream
    stream.hear_out(driver.owner is None)
    driver.opening = opening
    driver.phase = OPENING
    driver.stage = OPENING_STAGE
    driver.is_shut = False
    driver.process = c_getpid()
    driver.is_watched = driver._loop.get_debug()
    # Without the GIL a call from another thread would do damage.
    driver.own_thread = 0
    if IS_FREE_THREADED or driver.is_watched:
        driver.own_thread = <unsigned long>PyThread_get_thread_ident()
    if stream.carrier is None:
        reactor_of(driver._loop, driver.settings.portable).attach(driver, stream.fd, READABLE)
    else:
        carry(driver._loop, driver, stream.carrier, READABLE)
    if opening.due < NEVER:
        driver.be_due_by(opening.due)
    # A client speaks first; and another server may have read the request.
    return go_on(driver) if driver.owner is None or opening.ending is not None else 0


cdef class OpeningStage(Stage):
    """The stage in which the conversation is under way that opens the connection."""

    cdef int read(self, Driver driver) except -1:
        return read_opening(driver)

    cdef int expired(self, Driver driver, double now) except -1:
        if driver.opening is None or driver.opening.due == NEVER:
            return 0
        if now >= driver.opening.due:
            return opening_expired(driver)
        return driver.be_due_by(driver.opening.due)


cdef Stage OPENING_STAGE = OpeningStage()     # it has no state: there is one for all


# --- the conversation --------------------------------------------------------------------------------------------


cdef int read_opening(Driver driver) except -1:
    cdef Opening opening = driver.opening
    cdef double now = driver.reactor.now
    cdef Py_ssize_t count
    try:
        count = driver.take_in(NULL)
    except OSError as error:
        return fail_opening(driver, error)
    if driver.phase == OVER:      # Python code within TLS has ended the connection
        return 0
    if count == NOTHING_YET:
        return 0
    if count == END_OF_STREAM:
        opening.receive_eof(now)
    else:
        opening.receive((<char *>driver.reactor.buffer)[:count], now)
    if driver.phase != OVER:
        go_on(driver)
    # A carrier that is no descriptor may hold more than one read takes.
    return read_opening(driver) if driver.phase == OPENING and driver.stream.holds_input() else 0


cdef int go_on(Driver driver) except -1:
    """Send the output of the conversation, and act on its outcome."""
    cdef Opening opening = driver.opening
    cdef bytes output
    if opening.announced is not None:
        learn_addresses(driver, opening)
        if driver.phase == OVER:
            return 0
    if type(opening.ending) is Failed:
        return fail_opening(driver, (<Failed>opening.ending).error)
    if driver.phase == DECIDING:
        return 0 if opening.wants_input else driver.reactor.set_interest(driver, 0)
    if opening.ending is None:
        output = opening.data_to_send()
        if output and driver.stream.is_full:
            return fail_opening(driver, ConnectionAbortedError(UNREAD))
        if output:
            driver.engine.push_bytes(output)
            driver.act_on_state()
            if driver.phase == OVER:
                return 0
        return 0 if opening.ending is None else go_on(driver)
    if opening.session is not None:
        if driver.engine.unsent():
            return fail_opening(driver, ConnectionAbortedError(UNREAD))
        driver.stream.tls = opening.take_session()    # which may hold input
    if driver.owner is None:
        return finish_opening(driver)
    driver.phase = DECIDING
    if driver.owner._decide(connection_of(driver), opening):
        return answer(driver) if driver.phase == DECIDING else 0
    if driver.phase == DECIDING and driver.stream.has_news():
        driver._loop.call_soon(driver._read_held)
    return 0


cdef int learn_addresses(Driver driver, Opening opening) except -1:
    """Take the addresses that a proxy names for those of the socket, which are the proxy's."""
    header, opening.announced = opening.announced, None
    if header.source is not None:
        driver.stream.set_addresses(header.destination, header.source)
    if header.tlvs is not None:
        connection_of(driver).proxy_tlvs = header.tlvs
    driver.owner._announced(connection_of(driver))
    return 0


cdef int answer(Driver driver) except -1:
    driver.engine.push_bytes(driver.opening.data_to_send())
    return finish_opening(driver)


# --- the outcome -------------------------------------------------------------------------------------------------


cdef int finish_opening(Driver driver) except -1:
    cdef object outcome = driver.opening.ending
    cdef Waiter opener
    if type(outcome) is Open:
        return begin_messages(driver)
    if driver.owner is None or type(outcome) is Failed:
        return fail_opening(driver, outcome.error)
    opener = driver.opener
    driver.opener = driver.opening = None
    driver.phase = LIVE
    driver.owner._refused(connection_of(driver), (<Refused>outcome).response)
    driver.engine.refuse("the opening handshake was refused", clock())
    driver.act_on_state()
    if opener is not None:
        opener.wake((<Refused>outcome).error)
    return 0


cdef int begin_messages(Driver driver) except -1:
    cdef Open opened = driver.opening.ending
    cdef Waiter opener = driver.opener
    cdef bytes rest = opened.rest
    driver.opener = driver.opening = None
    driver.phase = LIVE
    driver.stream.hear_out(False)
    driver.agreed = opened.subprotocol
    driver.opened = opened
    if opened.extensions:
        driver.engine.use(opened.extensions)
    opened.forget()
    begin_life(driver, connection_of(driver), clock())
    driver.set_threadsafe_calls(())
    driver.stalls_seen = driver.reactor.stalled
    if driver.engine.ping_interval() < NEVER:
        driver.be_due_by(driver.engine.next_due())
    if IS_FREE_THREADED and driver.owner is None:
        driver.be_due_by(clock() + FORGOTTEN_AFTER)
    if rest:
        driver.engine.feed_bytes(rest, clock())
    if driver.owner is not None:
        driver.owner._handle(connection_of(driver))
        if driver.reactor is None:
            return 0
    driver.act_on_state()
    if opener is not None:
        opener.wake()
    if driver.reactor is not None and driver.stream.holds_input():
        driver._loop.call_soon(driver._read_held)
    return 0


cdef int fail_opening(Driver driver, object error) except -1:
    """Give up on a connection that was never open: close it, and wake the task that waits for it."""
    cdef Waiter opener = driver.opener
    cdef Opening opening = driver.opening
    driver.opener = driver.opening = None
    if opening.session is not None:
        driver.engine.push_bytes(opening.data_to_send())    # the alert, which tells the peer why
        driver.write_output()
    if driver.owner is not None:
        driver.owner._failed(connection_of(driver), error)
    driver.engine.receive_eof(str(error))
    driver.drop()
    if opener is not None:
        opener.wake(error)  # last: the task that it wakes may use this object again, as after a redirect
    return 0


cdef int opening_expired(Driver driver) except -1:
    """End an opening that took too long: perhaps a server's program has not decided yet."""
    if driver.phase == DECIDING:
        driver.owner._decides_too_long(connection_of(driver), driver.opening)
        return answer(driver)
    driver.opening.expire()
    return go_on(driver)
