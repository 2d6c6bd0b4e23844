"""A connection of a server with threads or greenlets of its own: one of these has read the request, and serves it.

No event loop and no other thread takes part: what `BlockingConnection` does in the calls of its methods is all.
"""

cimport cython

from ..faces.blocking.connection cimport BlockingConnection
from ..faces.blocking.driver cimport Driver, begin_call, end_call
from ..faces.life cimport set_engine
from ..io.clock cimport clock
from ..io.stream cimport Stream
from ..opening.outcome cimport Open
from ..opening.server cimport ServerOpening
from ..protocol.state cimport OPEN

from ..faces.connection import new_engine
from ..protocol.state import Role

__all__ = ["AcceptedConnection"]


@cython.no_gc_clear
cdef class AcceptedConnection(BlockingConnection):
    """A connection that `lapwing.wsgi.accept` has opened: a `BlockingConnection` that belongs to no server of lapwing.

    It has a descriptor of its own beside the other server's. When it ends, nothing can be sent over that one any more.
    """

    @staticmethod
    def _accept(settings, int fd, ServerOpening opening not None, tuple client=None):
        """Answer a request that is granted, and begin.

        Args:
            settings: the options, a `lapwing.options.ServerSettings`.
            fd: the descriptor, which is the connection's from now on.
            opening: the conversation, whose outcome is `Open`.
            client: the client's address where it is not the stream's.

        Raises:
            OSError: the connection is lost.
        """
        cdef AcceptedConnection connection = AcceptedConnection.__new__(AcceptedConnection)
        cdef Stream stream = Stream(fd)
        if client is not None:
            stream.set_addresses(stream.local_address, client)
        cdef Driver driver = connection.driver
        driver.settings = settings
        driver.is_shared = True
        set_engine(driver, new_engine(Role.SERVER, settings))
        driver.take_stream(stream)
        cdef unsigned long call = begin_call(driver)
        try:
            connection.answer(opening, clock() + <double>settings.opening)
        finally:
            if not driver.is_connected:
                driver.close_stream()
            end_call(driver, call)
        return connection

    cdef int answer(self, ServerOpening opening, double deadline) except -1:
        """Send the response, and begin with messages."""
        self.driver.engine.push_bytes(opening.data_to_send())
        if type(opening.ending) is not Open:
            raise RuntimeError("expected a granted request: the other server answers refused ones")
        if not self.driver.push_output(deadline):
            raise TimeoutError("the client did not read the response to its opening handshake in time")
        return self.begin_messages(opening.ending)

    @property
    def _is_open(self):
        """Whether messages can be sent."""
        return self.driver.is_connected and self.driver.engine.phase == OPEN

    def broadcast(self, message, opcode=None, *, compress=None, lagging=None, key=None):
        """Refuse: there is no server of lapwing that knows the other connections.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(
            "this connection belongs to a WSGI server, which has no event loop for broadcasts: send to each "
            "connection that the program keeps, from any thread")
