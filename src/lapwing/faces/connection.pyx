"""The common base of the connections of both faces: what programs may ask of any connection.

A connection owns its driver, which moves its bytes. This module sees of the driver what both faces have in common, a
`Reader`, and looks at it under its lock: any thread may ask.
"""

cimport cython

from ..io.stream cimport Stream
from ..native.sharing cimport give_lock, take_lock
from ..protocol.endpoint cimport make_engine
from ..protocol.engine cimport Engine
from .life cimport sample, take_stock

from ..protocol.state import Role, State

__all__ = ["BaseConnection", "close_after", "new_engine"]


cdef extern from *:
    """
    /* Cython makes a dictionary for every instance that may have attributes of its own. Without one, a connection is
     * smaller and looking up its methods is quicker; Python makes it when an attribute is set. */
    static void lapwing_drop_dict(PyObject *self)
    {
        PyObject **dict = _PyObject_GetDictPtr(self);
        if (dict != NULL)
            Py_CLEAR(*dict);
    }
    """
    void drop_dict "lapwing_drop_dict"(object self)


cdef tuple STATES = (State.OPEN.name, State.CLOSING.name, State.CLOSED.name)    # by EndpointState
# The driver of a connection that a program has made by itself, of no face: it drives nothing.
cdef Reader NO_DRIVER = Reader.__new__(Reader)


@cython.no_gc_clear
cdef class BaseConnection:
    """What can be asked of any connection.

    Attributes:
        user: the `user` that a server's `on_request` has set for the request; otherwise None.
        proxy_tlvs: with a server's `proxy_protocol`, the fields that the proxy has added to the client's address: a
            `lapwing.protocol.ProxyTLVs`; otherwise None.
    """

    # An attribute of the class: a connection that has a user of its own keeps it as it keeps attributes of a program's.
    user = None
    proxy_tlvs = None

    def __cinit__(self):
        drop_dict(self)
        self.reader = NO_DRIVER     # the faces replace it

    @property
    def _settings(self):
        return self.reader.settings

    @property
    def _reader(self):
        """The driver, for broadcasts."""
        return self.reader

    cdef Engine find_engine(self):
        """Return the engine to whichever thread asks, None before there is one."""
        take_lock(&self.reader.lock)
        engine = self.reader.engine
        give_lock(&self.reader.lock)
        return engine

    @property
    def closed(self):
        """How the connection ended, a `Closed`, or None while it is open."""
        take_lock(&self.reader.lock)
        try:
            return None if self.reader.engine is None else self.reader.engine.closed()
        finally:
            give_lock(&self.reader.lock)

    @property
    def close_received(self):
        """The peer's close frame (RFC 6455 section 5.5.1), a `CloseFrame`; None before it came.

        Also during the closing handshake, and where the connection was lost before its end. Its code is 1005 where the
        frame held none.
        """
        take_lock(&self.reader.lock)
        try:
            return None if self.reader.engine is None else self.reader.engine.close_received()
        finally:
            give_lock(&self.reader.lock)

    @property
    def close_sent(self):
        """This end's close frame, a `CloseFrame`; None before it was sent.

        This end closes by `close`, at the end of a handler, or because something failed; or it answers the peer's close
        frame with the same code and reason.
        """
        take_lock(&self.reader.lock)
        try:
            return None if self.reader.engine is None else self.reader.engine.close_sent()
        finally:
            give_lock(&self.reader.lock)

    @property
    def peer_closed_first(self):
        """Whether the peer's close frame came before this end sent one; None before either."""
        take_lock(&self.reader.lock)
        try:
            return None if self.reader.engine is None else self.reader.engine.peer_closed_first()
        finally:
            give_lock(&self.reader.lock)

    @property
    def latency(self):
        """The last round trip of a ping in seconds, whether `ping` or the keepalive sent it; None before the first."""
        take_lock(&self.reader.lock)
        try:
            return None if self.reader.engine is None else self.reader.engine.latency()
        finally:
            give_lock(&self.reader.lock)

    @property
    def subprotocol(self):
        """The subprotocol that was agreed (RFC 6455 section 1.9), or None."""
        take_lock(&self.reader.lock)
        agreed = self.reader.agreed
        give_lock(&self.reader.lock)
        return agreed

    @property
    def _role(self):
        cdef Engine engine = self.find_engine()
        return None if engine is None else Role.CLIENT if engine.is_client else Role.SERVER

    cdef object find_opened(self):
        take_lock(&self.reader.lock)
        opened = self.reader.opened
        give_lock(&self.reader.lock)
        return opened

    @property
    def server(self):
        """The `lapwing.Server` of a connection that a handler got; None on a client's.

        Of its methods a handler in a thread may call those that may be called from any thread.
        """
        return None

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
        take_lock(&self.reader.lock)
        stream = self.reader.stream
        give_lock(&self.reader.lock)
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
        return None if stream is None else stream.ssl_object

    def stats(self):
        """Return the statistics of this connection since its opening handshake, a `lapwing.stats.ConnectionStats`.

        It may be called at any time, from any thread, also after the end; before `connect` all is 0. While messages go,
        another thread gets each number as it is when it is read: together they need not be of one moment.
        """
        take_lock(&self.reader.lock)
        try:
            return take_stock(self.reader)
        finally:
            give_lock(&self.reader.lock)

    def _tap(self, log, Py_ssize_t payload):
        """Have frames noted for `log`, an object with `write` as `FrameLog` has; None to stop.

        Args:
            log: who gets them from now on.
            payload: how many bytes of each payload.

        Returns:
            Who got them so far, or None. To put that back is the caller's.
        """
        before = self.reader.frame_log
        if self.reader.engine is None:
            raise RuntimeError("there are no frames before the connection is open")
        self.reader.engine.record_frames(-1 if log is None else payload)
        self.reader.frame_log = log
        return before

    def _lasted(self):
        """Return for how many seconds the connection was open; None while it is."""
        return None if self.reader.ended_at == 0 else max(self.reader.ended_at - self.reader.opened_at, 0.0)

    def _is_stalled(self):
        """Tell whether a wait for the peer expired, and nothing has come from it since."""
        cdef Engine engine = self.find_engine()
        return engine is not None and self.reader.expired_at > engine.now

    def _sample(self):
        """Return what changes while a connection is used, as plain numbers: cheaper than `stats`.

        Returns:
            Messages received and sent; bytes of their frames, and of their payloads, both ways; messages queued, and
            their bytes; bytes unsent, and held in all; broadcasts dropped; the last round trip in microseconds, -1
            before the first.
        """
        return sample(self.reader)

    def __repr__(self):
        take_lock(&self.reader.lock)
        try:
            is_open = self.reader.engine is not None and self.reader.opened is not None
            state = STATES[<int>self.reader.engine.phase] if is_open else "not connected"
            subprotocol = f" {self.reader.agreed}" if self.reader.agreed else ""
        finally:
            give_lock(&self.reader.lock)
        return f"<lapwing.{type(self).__name__}{subprotocol} {state} peer={self.peer_address}>"


def close_after(error):
    """Choose close code and reason for leaving a `with` block: how the block ended tells."""
    if error is None:
        return (1000, "")
    if isinstance(error, Exception):
        return (1011, "")
    return (1001, "")


def new_engine(role, settings):
    """Make the engine of a connection with these settings."""
    return make_engine(role, settings.max_message_size, settings.max_buffered, settings.closing, True)
