"""ASGI's events of an open WebSocket, made natively: nearly every call of an application's `receive` and `send`.

`Events` answers these calls. All others, before the application has accepted the WebSocket and after its end, are a
subclass's: `application.Call`.
"""

cimport cython
from cpython.object cimport PyObject, PyTypeObject

from ..faces.aio.connection cimport Connection
from ..faces.aio.receiving cimport Receive, new_receive
from ..faces.aio.waiting cimport DONE

from ..options import UNSET
from ..protocol.errors import ConnectionClosed

__all__ = ["Events"]


cdef extern from "awaitable.h":
    """
    LAPWING_AWAITABLE(event)
    """
    ctypedef PyObject *(*lapwing_step)(object, int *) except NULL
    void event_install(PyTypeObject *type, lapwing_step step)


cdef extern from *:
    PyObject *new_reference "Py_NewRef"(object value)


cdef class Events:
    """`receive` and `send` of one call of an application.

    Attributes:
        connection: the connection.
        is_open: whether the application has accepted it.
        is_closed_here: whether the application has closed it.
        disconnect: the event that ends what the application receives; None before.
        room: an `asyncio.Event` that is set unless output waits on its way to the client; None where the connection
            itself tells that.
    """

    cdef public Connection connection
    cdef public bint is_open
    cdef public bint is_closed_here
    cdef public dict disconnect
    cdef public object room

    def receive(self):
        """Return the next event; the application's `receive`.

        Cancelled, it loses none.
        """
        cdef NextEvent awaitable
        if not self.is_open or self.is_closed_here or self.disconnect is not None:
            return self._receive_otherwise()
        awaitable = NextEvent.__new__(NextEvent)
        awaitable.inner = new_receive(self.connection.driver, UNSET)
        awaitable.events = self
        return awaitable

    def send(self, event):
        """Take an event; the application's `send`.

        Raises:
            OSError: the client is not there any more.
            RuntimeError: the event has no place here.

        It waits while the client reads too slowly.
        """
        if (
            not self.is_open or self.is_closed_here or type(event) is not dict
            or event.get("type") != "websocket.send" or self.room is not None and not self.room.is_set()
        ):
            return self._send_otherwise(event)
        message = (<dict>event).get("bytes")
        if message is None:
            message = (<dict>event).get("text")
            if message is None:
                return DONE
        try:
            sending = self.connection.send_message(message, None, None, UNSET)
        except ConnectionClosed:
            return self._send_otherwise(event)  # which raises it when it is awaited
        return DONE if sending is DONE else self._sent(sending)


@cython.final
@cython.freelist(16)
cdef class NextEvent:
    """What `receive` of an application awaits: a coroutine in all but name, around that of the connection."""

    cdef Receive inner      # None once it has given its event
    cdef Events events

    cdef object step(self, int *finished):
        """Make an event of the next message, or say what to wait for."""
        cdef Receive inner = self.inner
        if inner is None:
            raise RuntimeError("this receive() was awaited before: call receive() for each event")
        message = inner.step(finished)
        if not finished[0]:
            return message
        self.inner = None
        if type(message) is str:
            return {"type": "websocket.receive", "text": message}
        if message is None:
            return self.events._disconnected()
        return {"type": "websocket.receive", "bytes": message}

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        """Take a step, as a coroutine does."""
        cdef int finished = 0
        outcome = self.step(&finished)
        if finished:
            raise StopIteration(outcome)
        return outcome

    def throw(self, kind, value=None, traceback=None):
        """End the wait with an exception, as a coroutine does; the message stays for the next `receive`."""
        self.close()
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        raise value if traceback is None else value.with_traceback(traceback)

    def close(self):
        """End the wait, as a coroutine does."""
        if self.inner is not None:
            self.inner.close()
            self.inner = None


cdef PyObject *event_step(object awaitable, int *finished) except NULL:
    return new_reference((<NextEvent>awaitable).step(finished))


event_install(<PyTypeObject *>NextEvent, event_step)
