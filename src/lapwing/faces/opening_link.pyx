"""The opening of a connection that a reactor drives: TLS, a proxy's tunnel and the opening handshake.

Each step is taken when input comes, and ends in `settle` as those of an open connection do. Whatever fails here ends
the connection with `fail_opening`, which tells the task that waits for the opening. The text of the handshake is the
business of `protocol`, and the answer that of a server's program: both are only called here.
"""

cimport cython
from cpython.pythread cimport PyThread_get_thread_ident

from ..io.clock cimport clock
from ..io.reactor cimport READABLE
from ..io.stream cimport END_OF_STREAM, NOTHING_YET, Stream, is_clogged
from ..io.watching cimport reactor_of
from ..native.instant cimport NEVER
from ..native.sharing cimport IS_FREE_THREADED
from .link cimport ANNOUNCING, DECIDING, FORGOTTEN_AFTER, LIVE, OPENING, OVER, SECURING, Link
from .waiting cimport Waiter

from ..protocol.errors import HandshakeError

__all__ = ["OpeningLink"]


cdef extern from "<unistd.h>" nogil:
    int c_getpid "getpid"()


@cython.no_gc_clear
cdef class OpeningLink(Link):
    """A connection that a reactor drives, and its opening; `Connection` is what to use."""

    cdef int begin(self, Stream stream, object handshake, double deadline) except -1:
        """Take over a connected stream and begin the opening handshake on it."""
        self.stream = stream
        stream.hear_out(self.owner is None)
        self.handshake = handshake
        self.opening_deadline = deadline
        self.is_shut = False
        self.process = c_getpid()
        self.is_watched = self._loop.get_debug()
        # Without the GIL a call from another thread would do damage.
        self.own_thread = 0
        if IS_FREE_THREADED or self.is_watched:
            self.own_thread = <unsigned long>PyThread_get_thread_ident()
        reactor_of(self._loop, self._settings.portable).attach(self, stream.fd, READABLE)
        self.look_in_by(deadline)
        return 0 if self.phase == ANNOUNCING else self.start()

    cdef int start(self) except -1:
        """Begin with TLS, if there is any, else with the opening handshake."""
        if self.stream.tls is not None:
            self.phase = SECURING
            return self.secure()
        return self.begin_handshake()

    cdef int secure(self) except -1:
        """Go on with the TLS handshake."""
        cdef bint done
        try:
            done = self.stream.tls.handshake()
            self.stream.push()
        except OSError as error:
            try:
                self.stream.push()  # the alert, which tells the peer why
            except OSError:
                pass
            return self.fail_opening(error)
        if self.phase == OVER:      # a callback of the context's has ended the connection
            return 0
        if done:
            self.begin_handshake()
        return self.settle()

    cdef int begin_handshake(self) except -1:
        """Begin what `handshake` is: the opening handshake, or before that the one that asks a proxy for a tunnel."""
        self.phase = OPENING
        if self.endpoint.client:
            self.endpoint.push_bytes(self.handshake.data_to_send())
        return self.settle()

    cdef int read_opening(self) except -1:
        cdef Py_ssize_t count
        try:
            count = self.take_in(NULL)
        except OSError as error:
            return self.fail_opening(error)
        if self.phase == OVER:      # as in `secure`
            return 0
        if is_clogged(self.stream):
            return self.fail_opening(ConnectionAbortedError("the peer asks TLS for more answers than it reads"))
        if self.phase == SECURING:
            if count == END_OF_STREAM:
                return self.fail_opening(ConnectionResetError("the connection ended during the TLS handshake"))
            self.secure()
            if self.phase != OPENING or not self.stream.holds_input():
                return 0
            return self.read_opening()
        if count == NOTHING_YET:
            return 0
        if self.phase != OPENING:
            return self.read_early(count)
        self.advance_handshake((<char *>self.reactor.buffer)[:count])
        if self.phase <= OPENING and self.stream.holds_input():
            return self.read_opening()
        if self.phase == DECIDING and self.stream.has_news():
            self._loop.call_soon(self._read_held)
        return 0

    cdef int advance_handshake(self, bytes data) except -1:
        cdef object handshake = self.handshake
        try:
            if data:
                if not handshake.receive_data(data):
                    return 0
            else:
                handshake.receive_eof()
                if handshake.response is None:
                    return self.fail_opening(
                        HandshakeError("the client closed the connection before it asked for anything"))
        except HandshakeError as error:
            return self.fail_opening(error)
        if not self.endpoint.client:
            return self.decide()
        if handshake.is_tunnel:
            return self.enter_tunnel()
        return self.finish_handshake(handshake.rest)

    cdef int answer(self) except -1:
        """Send what a server's handshake has decided."""
        self.endpoint.push_bytes(self.handshake.data_to_send())
        return self.finish_handshake(self.handshake.rest)

    cdef int finish_handshake(self, bytes rest) except -1:
        cdef object handshake = self.handshake
        cdef Waiter opener = self.opener
        self.opener = None
        self.handshake = None
        self.opening_deadline = 0
        self.phase = LIVE
        self.stream.hear_out(False)
        self.agreed = handshake.subprotocol
        self.opened = handshake if self.owner is None else handshake.request_head
        if handshake.extensions:
            self.endpoint.use(handshake.extensions)
        if self.owner is not None:
            if not handshake.accepted:
                self.owner._refused(self, handshake)
                self.endpoint.refuse("the opening handshake was refused", now=clock())
                return self.settle()
        self.begin_life(clock())
        self.set_errands(())
        self.stalls_seen = self.reactor.stalled
        if self.endpoint.ping_interval < NEVER:
            self.look_in_by(self.endpoint.next_due())
        if IS_FREE_THREADED and self.owner is None:
            self.look_in_by(clock() + FORGOTTEN_AFTER)
        if rest:
            self.endpoint.receive_data(rest, clock())
        if self.owner is not None:
            self.opened_by_peer()
            if self.reactor is None:
                return 0
        self.settle()
        if opener is not None:
            opener.wake()
        if self.reactor is not None and self.stream.holds_input():
            self._loop.call_soon(self._read_held)
        return 0

    cdef int fail_opening(self, object error) except -1:
        """Give up on a connection that was never open: close it, and wake the task that waits for it."""
        cdef Waiter opener = self.opener
        self.opener = self.handshake = None
        self.opening_deadline = 0
        if self.owner is not None:
            self.owner._failed(self, error)
        self.endpoint.receive_eof(str(error))
        self.drop()
        if opener is not None:
            opener.wake(error)  # last: the task that it wakes may use this object again, as after a redirect
        return 0

    cdef int opening_expired(self) except -1:
        return self.fail_opening(
            TimeoutError(f"the opening handshake took longer than {self._settings.opening:g} s"))

    # --- what a subclass says --------------------------------------------------------------------------------------

    cdef int enter_tunnel(self) except -1:
        raise NotImplementedError

    cdef int decide(self) except -1:
        raise NotImplementedError

    cdef int opened_by_peer(self) except -1:
        raise NotImplementedError

    cdef int read_early(self, Py_ssize_t count) except -1:
        raise NotImplementedError
