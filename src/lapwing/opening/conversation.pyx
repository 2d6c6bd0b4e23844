"""The conversation that opens a connection, without I/O: its common part at both ends.

`ServerOpening` and `ClientOpening` have the requests and responses. Common to both are TLS below these, the time limit,
early input, and the outcome. The owner has a transport and a clock: it passes on input to `receive` and its end to
`receive_eof`, sends what `data_to_send` returns, calls `advance` when the `deadline` has come, and looks at the
`outcome` after each of these.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from ..io.tls cimport TLS
from ..native.buffer cimport Buffer, buffer_consume, buffer_size
from ..native.instant cimport NEVER
from .outcome cimport Failed, Open

__all__ = ["Opening"]


cdef enum:
    # The plaintext of one record (RFC 8446 section 5.1).
    MAX_RECORD = 16 * 1024

cdef str CUT_OFF = "the connection ended during the TLS handshake"


cdef class Opening:
    """The common part of `ServerOpening` and `ClientOpening`.

    Where TLS carries the connection, bytes go in and out as the network has them, until `take_session`.
    """

    def __cinit__(self):
        self.rest = b""
        self.due = self.timeout = NEVER

    @property
    def outcome(self):
        """How the opening ended: `Open`, `Refused`, `Redirect` or `Failed`; None while it is under way."""
        return self.ending

    @property
    def proxy_header(self):
        """The header of the PROXY protocol; None before it came, and without one."""
        return self.announced

    @property
    def ssl_object(self):
        """The `ssl.SSLObject` of the session; None without TLS, and once the session was taken."""
        return None if self.session is None else self.session.ssl_object

    @property
    def wants_input(self):
        """Whether to read on: no longer once much has come behind the handshake, before there was an answer."""
        return len(self.rest) <= MAX_EARLY

    cpdef object receive(self, bytes data, double now):
        """Take bytes from the peer.

        Args:
            data: any number of bytes; any cut is as good as any other.
            now: when they came.
        """
        if self.session is None:
            self.hear(data)
        else:
            self.hear_session(data)

    cpdef object receive_eof(self, double now):
        """Learn that no more bytes will come.

        Args:
            now: the time.
        """
        if self.session is not None and not self.session.established:
            self.fail(ConnectionResetError(CUT_OFF))
        else:
            self.hear_end()

    cpdef bytes data_to_send(self):
        """Return the bytes to send to the peer; they count as sent. With the response the outcome is settled."""
        if self.session is None:
            return self.say()
        try:
            if self.speaks_first:
                self.speaks_first = False
                self.session.handshake()
            return self.seal(self.say() if self.session.established else b"")
        except OSError as error:
            self.fail(error)
            return self.seal(b"")

    cpdef double deadline(self) noexcept:
        """Return when `advance` is due: an instant of the owner's clock, infinity for never."""
        return self.due

    def advance(self, double now, double stalled=0.0):
        """Act on the time: an opening that is not over at its deadline has failed.

        Args:
            now: the time.
            stalled: how many seconds of it the owner could not attend to this opening: they are not counted.
        """
        self.due += stalled
        if now >= self.due and self.ending is None:
            self.expire()

    cpdef object expire(self):
        """End an opening that took too long."""
        self.fail(TimeoutError(f"the opening handshake took longer than {self.timeout:g} s"))

    cpdef object fail(self, object error):
        """Give the opening up, for a reason of the owner's or of this end's; the output may tell the peer why.

        Args:
            error: the reason.
        """
        self.ending = Failed(error)
        self.due = NEVER

    cpdef TLS take_session(self):
        """Hand the TLS session over: from now on plaintext goes in and out here, and the owner encrypts.

        Returns:
            The session, which may hold input; None without TLS.
        """
        session, self.session = self.session, None
        return session

    # --- TLS ---------------------------------------------------------------------------------------------------------

    cdef int hear_session(self, bytes data) except -1:
        cdef TLS session = self.session
        try:
            session.take_in(<const unsigned char *>PyBytes_AS_STRING(data), len(data))
            try:
                if session.handshake():
                    self.decrypt()
                elif session.has_news():
                    self.fail(ConnectionResetError(CUT_OFF))
            finally:
                session.keep()
            if self.session is not session and self.session is not None and session.holds_input():
                self.hear_session(b"")  # a proxy has said more than that the tunnel is open
        except OSError as error:
            self.fail(error)
        return 0

    cdef int decrypt(self) except -1:
        """Pass on the decrypted input: until there is an outcome, or else all of it."""
        cdef TLS session = self.session
        cdef unsigned char room[MAX_RECORD]
        cdef Py_ssize_t count
        before = self.ending
        while self.session is session and self.ending is before and session.holds_input():
            count = session.decrypt(room, MAX_RECORD)
            if count:
                self.hear(PyBytes_FromStringAndSize(<char *>room, count))
            else:
                if session.has_news():
                    self.hear_end()
                break
        return 0

    cdef bytes seal(self, bytes output):
        """Encrypt some plaintext, if any, and return the output for the network."""
        cdef TLS session = self.session
        cdef Buffer *waiting
        if output:
            session.encrypt(<const unsigned char *>PyBytes_AS_STRING(output), len(output), NULL, 0)
        waiting = session.output()
        output = PyBytes_FromStringAndSize(<char *>waiting.data + waiting.start, buffer_size(waiting))
        buffer_consume(waiting, len(output))
        return output

    # --- extended by the subclasses ----------------------------------------------------------------------------------

    cdef int hear(self, bytes data) except -1:
        """Keep what came behind the handshake."""
        self.rest = self.rest + data if self.rest else data
        if type(self.ending) is Open:
            (<Open>self.ending).rest = self.rest
        return 0

    cdef int hear_end(self) except -1:
        self.fail(ConnectionResetError("the connection ended before it was open"))
        return 0

    cdef bytes say(self):
        return b""
