"""A server's part of opening a connection: PROXY header, TLS, request, response (RFC 6455 section 4.2)."""

cimport cython

from ..io.tls cimport TLS
from ..native.instant cimport NEVER
from .conversation cimport Opening
from .outcome cimport Failed, Open, Refused, new_open

from ..protocol.errors import HandshakeError
from ..protocol.server_handshake import ServerHandshake

__all__ = ["ServerOpening", "adopt"]


@cython.final
cdef class ServerOpening(Opening):
    """A server's part of opening a connection.

    Once the request is there, `outcome` has the decision of the policy: `Open`, or `Refused` with the response. Until
    `data_to_send` has returned the response, `handshake` may be told to say something else. `Failed` stands for a
    client to which nothing is said.

    Args:
        policy: the server's rules.
        now: the time.
        timeout: seconds for the opening, from `now`.
        session: the TLS session, if there is one.
        header_reader: reads the header of the PROXY protocol that has to come first; None where none does.
    """

    def __init__(self, policy, *, double now, double timeout=NEVER, TLS session=None, header_reader=None):
        begin(self, policy, session, header_reader, timeout, now)

    @property
    def request(self):
        """The request; None before it is complete, and where it was malformed."""
        if self.decision is not None:
            return self.decision.request
        return self.ending.request if type(self.ending) is Open else None

    @property
    def response(self):
        """The response as it stands; None before the request is complete, and where there is none."""
        return None if self.ending is None or type(self.ending) is Failed else self.ending.response

    @property
    def handshake(self):
        """The opening handshake, to be told what to answer; see `ServerHandshake.refuse` and `respond`.

        Raises:
            RuntimeError: the request is not complete.
        """
        if self.ending is None:
            raise RuntimeError("there is nothing to decide on before the request is complete: see outcome")
        return self.decide()

    def refuse(self, status, text, headers=()):
        """Refuse the request, also before it is complete; see `ServerHandshake.refuse`.

        Raises:
            RuntimeError: the response was taken to be sent.
            ValueError: the status does not refuse, or something in the headers would not make a valid response.
        """
        self.decide().refuse(status, text, headers)
        self.judge()

    cpdef object read_by(self, object policy):
        """Have another policy decide on the request, from the beginning.

        Returns:
            The `ServerHandshake`, as `handshake` gives it from now on.

        Raises:
            RuntimeError: the request is not complete, or was answered.
        """
        head = self.handshake.request_head
        if self.is_answered:
            raise RuntimeError("the response was already sent")
        self.policy = policy
        self.decision = ServerHandshake(policy)
        self.decision.receive_data(head)
        self.judge()
        return self.decision

    # --- input of the client -----------------------------------------------------------------------------------------

    cpdef object receive(self, bytes data, double now):
        if self.header_reader is not None:
            data = self.hear_proxy(data)
            if not data:
                return
        if self.session is None:
            self.hear(data)
        else:
            self.hear_session(data)

    cdef bytes hear_proxy(self, bytes data):
        """Go on with the header of the PROXY protocol, which comes before everything else; returns what follows it."""
        reader = self.header_reader
        try:
            header = reader.receive_data(data)
        except ValueError as error:
            self.fail(error)
            return None
        if header is None:
            return None
        self.announced = header
        self.header_reader = None
        return reader.rest

    cdef int hear(self, bytes data) except -1:
        if self.ending is not None:
            return Opening.hear(self, data)
        if self.usual is None:
            raise RuntimeError("this opening was never begun")
        if self.decision is None:
            granted = self.usual.grant(data)
            if granted is not None:
                head, self.rest, self.response_head, subprotocol, extensions = granted
                self.ending = new_open(head, None, self.policy, subprotocol, extensions, self.rest)
                return 0
            self.decision = ServerHandshake(self.policy)
            is_over = self.decision._receive_unusual(data)
        else:
            is_over = self.decision.receive_data(data)
        if is_over:
            self.rest = self.decision.rest
            self.judge()
        return 0

    cpdef object receive_eof(self, double now):
        if self.header_reader is not None:
            self.fail(ConnectionResetError("the connection ended before its PROXY header"))
        else:
            Opening.receive_eof(self, now)

    cdef int hear_end(self) except -1:
        if self.ending is not None:
            self.fail(ConnectionResetError("the client left before its request was decided on"))
            return 0
        if self.decision is None:
            self.decision = ServerHandshake(self.policy)
        # A client that sent a part of a request may still be reading (RFC 9112 section 8).
        self.decision.receive_eof()
        return self.judge()

    # --- the response ------------------------------------------------------------------------------------------------

    cdef object decide(self):
        """The `ServerHandshake`, made when the first one asks for it."""
        cdef Open granted
        if self.decision is None and self.ending is None:
            self.decision = ServerHandshake(self.policy)
        elif self.decision is None:
            granted = self.ending
            self.decision = ServerHandshake.granted(
                self.policy, granted.request_head, self.response_head, granted.subprotocol, granted.extensions)
            if self.is_answered:
                self.decision.data_to_send()
        return self.decision

    cdef int judge(self) except -1:
        """Act on the decision of the handshake."""
        cdef object handshake = self.decision
        if handshake.accepted:
            self.ending = new_open(
                handshake.request_head, handshake.response_head, self.policy, handshake.subprotocol,
                handshake.extensions, self.rest)
            return 0
        response = handshake.response
        if response is None:
            self.fail(HandshakeError("the client closed the connection before it asked for anything"))
        else:
            self.ending = Refused(response)
        return 0

    cdef bytes say(self):
        if self.ending is None or self.is_answered or type(self.ending) is Failed:
            return b""
        self.is_answered = True
        self.due = NEVER
        if self.decision is None:
            return self.response_head
        self.judge()
        return self.decision.data_to_send()


cdef int begin(
    ServerOpening opening, object policy, TLS session, object header_reader, double timeout, double now
) except -1:
    opening.policy = policy
    opening.usual = policy.usual_requests()
    opening.session = session
    opening.header_reader = header_reader
    opening.timeout = timeout
    opening.due = now + timeout
    return 0


cdef ServerOpening new_server_opening(object policy, TLS session, object header_reader, double timeout, double now):
    cdef ServerOpening opening = ServerOpening.__new__(ServerOpening)
    begin(opening, policy, session, header_reader, timeout, now)
    return opening


def adopt(policy, bytes request not None, bytes rest not None=b"", *, double now, double timeout=NEVER):
    """Begin where another server has read the request already: the response is to be sent, if it is not overruled.

    Args:
        policy: the server's rules.
        request: the request's head as it came, from the request line to the empty line.
        rest: the bytes that were read behind it.
        now: the time.
        timeout: seconds until the request has to be decided on.

    Returns:
        A `ServerOpening` that has an outcome. A head that is not complete, or no head, is refused.
    """
    cdef ServerOpening opening = new_server_opening(policy, None, None, timeout, now)
    opening.receive(request, now)
    if opening.ending is None:
        opening.receive_eof(now)
    if rest and type(opening.ending) is Open:
        opening.receive(rest, now)
    return opening
