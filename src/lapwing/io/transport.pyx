"""A transport of asyncio as the carrier of a connection: on any event loop, over any of its transports.

asyncio's own transports, uvloop's, another server's, and objects that only behave like one will do. Such a transport
pushes: `data_received` brings bytes whenever there are some. Here they wait until the connection takes them, and where
it does not, reading is paused. Output is written while the transport holds none: its buffer has the rest of one
write, at most 64 KiB, and nothing more is written until it is empty. So a peer that does not read, and an application
that does not, cost no more than over a descriptor.

A connection that lapwing opens or accepts has its TLS here, over a plain transport: the records are natively made, the
end of a session can be told from a cut, and a proxy's header or tunnel may come before. A transport that brings its own
TLS, as those of another server do, is used as it is, and tells of it. A transport need not have all methods of
asyncio's: `write`, `close`, `is_closing`, `get_extra_info`, `pause_reading` and `resume_reading` will do.
"""

import socket

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport ECONNABORTED, ECONNRESET, EPIPE, EPROTO
from libc.string cimport memcpy

from ..native.landing cimport Landing
from ..native.sharing cimport poke
from .carrier cimport Carrier
from .reactor cimport READABLE, WRITABLE, Reactor, Source
from .stream cimport END_OF_STREAM, FAILED, NOTHING_YET, Stream, unacknowledged_on

__all__ = ["TransportCarrier", "accept_over_transport", "open_over_transport"]


cdef extern from *:
    """
    #include <errno.h>
    static void lapwing_set_errno(int number) { errno = number; }
    """
    void set_errno "lapwing_set_errno"(int number) noexcept


cdef enum:
    # Input that waits for a connection that is not there yet, or asked the transport to pause: beyond it is asked.
    MUCH_INPUT = 256 * 1024


@cython.final
cdef class TransportCarrier(Carrier):
    """A transport as a carrier, and the protocol that the transport talks to.

    Args:
        loop: the event loop.
    """

    cdef object loop
    cdef object transport       # None before `connection_made`, and once it is lost
    cdef object ssl_object
    cdef object local
    cdef object peer
    cdef int fd                 # the transport's own, to be looked at only; -1 without one
    cdef list chunks            # input that waits
    cdef Py_ssize_t start       # bytes of the first one that were taken
    cdef int interest
    cdef int failure            # an `errno` when the transport was lost for a reason
    cdef bint is_secure         # the transport has TLS by itself
    cdef bint is_paused         # reading is
    cdef bint is_ended          # the peer sends nothing more
    cdef bint is_lost
    cdef bint is_cut            # `cut_off` was called
    cdef bint is_writing
    cdef bint is_scheduled

    def __init__(self, loop):
        self.loop = loop
        self.chunks = []
        self.fd = -1

    @staticmethod
    def taken_over(loop, transport):
        """Return the carrier of a transport that another protocol has used so far."""
        cdef TransportCarrier carrier = TransportCarrier(loop)
        if hasattr(transport, "set_protocol"):  # else its owner calls the carrier's methods
            transport.set_protocol(carrier)
        carrier.connection_made(transport)
        return carrier

    # --- the protocol of the transport -----------------------------------------------------------------------------

    def connection_made(self, transport):
        """Begin with a transport that is connected."""
        self.transport = transport
        self.ssl_object = transport.get_extra_info("ssl_object")
        self.is_secure = self.ssl_object is not None or transport.get_extra_info("sslcontext") is not None
        self.local = readable_address(transport.get_extra_info("sockname"))
        self.peer = readable_address(transport.get_extra_info("peername"))
        sock = transport.get_extra_info("socket")
        self.fd = -1 if sock is None else sock.fileno()
        self.note_unsent()
        self.is_full = self.unsent > 0
        self.is_paused = not getattr(transport, "is_reading", yes)()
        # With a limit of 0 the transports of TLS would ask for a pause while they hold nothing.
        if hasattr(transport, "set_write_buffer_limits"):
            transport.set_write_buffer_limits(high=1, low=0)

    def data_received(self, data):
        """Keep what came until the connection takes it."""
        if self.is_closed or not data:
            return
        cdef bytes chunk = data if type(data) is bytes else bytes(data)
        self.chunks.append(chunk)
        poke(&self.held, self.held + PyBytes_GET_SIZE(chunk))
        self.deliver()
        if self.held > MUCH_INPUT:
            self.pause()

    def eof_received(self):
        """The peer sends nothing more. Returns whether this end may go on sending."""
        self.is_ended = True
        self.deliver()
        return not self.is_secure and not self.is_closed

    def connection_lost(self, error):
        """The transport is closed, by whichever end."""
        self.is_lost = True
        self.is_full = False
        self.transport = None
        self.fd = -1
        poke(&self.unsent, 0)
        if isinstance(error, OSError) and not self.failure:
            # The numbers of the module `ssl` are none of the system's.
            is_system = isinstance(error.errno, int) and not hasattr(error, "library")
            self.failure = error.errno if is_system else EPROTO
        elif error is not None and not self.failure:
            self.failure = ECONNRESET
        self.deliver()

    def pause_writing(self):
        """The transport holds output."""
        self.is_full = True

    def resume_writing(self):
        """It holds none any more."""
        self.is_full = False
        poke(&self.unsent, 0)
        self.deliver()

    # --- the connection --------------------------------------------------------------------------------------------

    cdef int deliver(self) except -1:
        """Serve the connection with what there is that it wants."""
        cdef int events = 0
        cdef Reactor reactor = self.reactor     # held: the last connection may go, and the reactor with it
        if reactor is None:
            return 0
        if self.interest & READABLE and self.holds_input():
            events |= READABLE
        if self.interest & WRITABLE and not self.is_full:
            events |= WRITABLE
        if events == 0:
            return 0
        if self.is_writing or reactor.in_burst:    # this is called from within
            return self.schedule()
        try:
            reactor.serve_alone(<Source>self.source, events)
        except Exception:
            raise
        except BaseException as error:  # ends the program, unless uvloop takes it for the transport's failure
            self.loop.call_soon(end_program, error)
        if self.reactor is not None and self.held and self.interest & READABLE:
            self.schedule()
        return 0

    cdef int schedule(self) except -1:
        if not self.is_scheduled and not has_closed(self.loop):
            self.is_scheduled = True
            self.loop.call_soon(self.on_turn)
        return 0

    def on_turn(self):
        """The loop's call for what could not be delivered at once."""
        self.is_scheduled = False
        self.deliver()

    cdef int want(self, int interest) except -1:
        self.interest = interest
        if not interest & READABLE:
            self.pause()
        elif self.is_paused:
            self.is_paused = False
            if self.transport is not None:
                self.transport.resume_reading()
        if (interest & READABLE and self.holds_input()) or (interest & WRITABLE and not self.is_full):
            self.schedule()
        return 0

    cdef int pause(self) except -1:
        if not self.is_paused and self.transport is not None and not self.transport.is_closing():
            self.is_paused = True
            self.transport.pause_reading()
        return 0

    cdef Py_ssize_t take(self, const Landing *landing, unsigned char *buffer, size_t size) noexcept:
        cdef size_t count, head
        if self.held == 0:
            set_errno(self.failure)
            if self.failure:
                return FAILED
            return END_OF_STREAM if self.is_over() else NOTHING_YET
        if landing is NULL or landing.room is NULL:
            return self.move(buffer, size)
        count = head = self.move(buffer, landing.head)
        count += self.move(landing.room, landing.room_size)
        if head == landing.head and count == landing.head + landing.room_size:
            # As in `Stream`: behind a head the buffer needs place for the room, too.
            count += self.move(buffer + landing.head, size - count if landing.head else size)
        return count

    cdef size_t move(self, unsigned char *to, size_t size) noexcept:
        """Move so many bytes of the input, or as many as there are."""
        cdef size_t moved = 0
        cdef size_t step
        cdef bytes chunk
        while moved < size and self.chunks:
            chunk = <bytes>self.chunks[0]
            step = min(size - moved, <size_t>(PyBytes_GET_SIZE(chunk) - self.start))
            memcpy(to + moved, PyBytes_AS_STRING(chunk) + self.start, step)
            moved += step
            self.start += step
            if self.start == PyBytes_GET_SIZE(chunk):
                self.start = 0
                del self.chunks[0]
        poke(&self.held, self.held - moved)
        return moved

    cdef bint holds_input(self) noexcept:
        return self.held > 0 or self.is_over()

    cdef bint is_over(self) noexcept:
        return self.is_ended or self.is_lost

    cdef int write(self, bytes data) except -1:
        if self.transport is None or self.is_closed or self.is_cut:
            raise OSError(self.failure or EPIPE, "the transport is closed")
        self.is_writing = True
        try:
            self.transport.write(data)
        except OSError:
            raise
        except Exception as error:  # the transport is closing, or its loop is closed
            raise OSError(ECONNABORTED, f"the transport took nothing more: {error}") from error
        finally:
            self.is_writing = False
        self.note_unsent()
        return 0

    cdef int note_unsent(self) except -1:
        """Ask how much the transport holds itself."""
        if self.transport is not None:
            size = getattr(self.transport, "get_write_buffer_size", zero)()
            poke(&self.unsent, size)
        return 0

    # --- the end ---------------------------------------------------------------------------------------------------

    cdef int shut_down(self) except -1:
        if self.transport is None:
            return 0
        try:
            if getattr(self.transport, "can_write_eof", no)():
                self.transport.write_eof()
            else:   # TLS by itself: its close notice goes out, and the peer's is waited for
                self.transport.close()
        except OSError:     # the connection is lost, as the transport will say
            pass
        return 0

    cdef int close(self) except -1:
        if self.is_closed:
            return 0
        self.is_closed = True
        self.chunks = []
        poke(&self.held, 0)
        if self.transport is None or has_closed(self.loop):
            return 0
        if (self.is_secure and not self.unsent and not self.is_cut) or not hasattr(self.transport, "abort"):
            self.transport.close()
        else:
            self.transport.abort()
        return 0

    cdef int cut_off(self) except -1:
        self.is_cut = True
        return 0

    cdef int abandon(self) noexcept:
        self.is_closed = True
        self.transport = None
        self.fd = -1
        return 0

    # --- properties ------------------------------------------------------------------------------------------------

    cdef tuple local_address(self):
        return self.local

    cdef tuple peer_address(self):
        return self.peer

    cdef object tls_session(self):
        return self.ssl_object

    cdef unsigned int unacknowledged(self) noexcept:
        return 0 if self.fd < 0 else unacknowledged_on(self.fd)


# For transports that do not have all methods of asyncio's.
def yes():
    return True


def no():
    return False


def zero():
    return 0


cdef bint has_closed(object loop) except -1:
    try:
        return loop.is_closed()
    except AttributeError:  # the garbage collector is taking all of it apart, and was there first
        return True


def end_program(error):
    """Raise what ends the program where every event loop lets it through."""
    raise error


cdef tuple readable_address(object given):
    """Return an address of IPv4 or IPv6 in a form that a stream can keep; None for any other."""
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 4):
        return None
    host, port = given[:2]
    try:
        host = host.partition("%")[0]
        socket.inet_pton(socket.AF_INET if len(given) == 2 else socket.AF_INET6, host)
        port.to_bytes(2, "big")
    except (AttributeError, OSError, OverflowError):
        return None
    return (host, port, *given[2:])


async def open_over_transport(loop, sock):
    """Return the stream of a connected socket, over a transport of the loop's.

    Cancelled or failed, it closes the socket.
    """
    connect = loop.create_unix_connection if sock.family == getattr(socket, "AF_UNIX", None) else loop.create_connection
    return await over_transport(loop, connect, sock)


async def accept_over_transport(loop, sock):
    """The same for a socket that was accepted."""
    return await over_transport(loop, loop.connect_accepted_socket, sock)


async def over_transport(loop, connect, sock):
    cdef TransportCarrier carrier = TransportCarrier(loop)
    sock.setblocking(False)
    try:
        if connect == loop.connect_accepted_socket:
            await connect(lambda: carrier, sock)
        else:
            await connect(lambda: carrier, sock=sock)
    except BaseException:
        sock.close()
        raise
    return Stream(-1, carrier=carrier)
