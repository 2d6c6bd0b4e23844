"""The bytes of one connection, with TLS or without. Knows no frame and no loop.

They go over a socket's descriptor, or over another carrier, see `carrier`.

TLS has no descriptor of its own (`tls`): ciphertext is read and sent here like any other bytes, so that the same code
serves a reactor and a blocking client, and goes over any carrier. The session has a lock as soon as threads may share
the stream; in a reactor, which has one thread, it needs none.
"""

import os
import threading

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from libc.errno cimport EAGAIN, ECONNABORTED, EINTR, EPROTO, errno
from libc.string cimport memcpy, memset

from ..native.buffer cimport Buffer, buffer_consume, buffer_size
from ..native.landing cimport Landing
from ..native.sharing cimport peek, poke
from .address cimport read_address, take_addresses, write_address
from .carrier cimport Carrier

__all__ = ["Stream"]


cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len


cdef extern from "<sys/socket.h>" nogil:
    cdef struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    enum:
        MSG_DONTWAIT
        SHUT_RDWR
        SHUT_WR
    ssize_t c_recv "recv"(int fd, void *buffer, size_t size, int flags)
    ssize_t c_send "send"(int fd, const void *buffer, size_t size, int flags)
    ssize_t c_recvmsg "recvmsg"(int fd, msghdr *message, int flags)
    ssize_t c_sendmsg "sendmsg"(int fd, const msghdr *message, int flags)
    int c_shutdown "shutdown"(int fd, int how)


cdef extern from "<unistd.h>" nogil:
    int c_close "close"(int fd)


cdef extern from *:
    """
    /* macOS has no such flag; there Python's own ignoring of SIGPIPE must do. */
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif

    #include <fcntl.h>

    #include <sys/ioctl.h>
    #ifdef __linux__
    #include <linux/sockios.h>
    #endif

    /* A unix socket counts the memory that holds what its peer has not read, not the bytes: some 800 for a small frame.
     * So little is taken for nothing, or a ping that was read and not answered would look like output on its way. */
    #define LAPWING_FEW_FRAMES 4096

    static unsigned int lapwing_unacknowledged(int fd)
    {
        int count = 0;
    #ifdef __linux__
        int family = AF_INET;
        socklen_t size = sizeof(family);
        if (ioctl(fd, SIOCOUTQ, &count) < 0)
            return 0;
        if (count > 0 && count <= LAPWING_FEW_FRAMES && getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size) == 0 &&
            family == AF_UNIX)
            return 0;
    #endif
        return count;
    }

    static int lapwing_set_blocking(int fd, int blocking)
    {
        int value = !blocking;
        return ioctl(fd, FIONBIO, &value);
    }

    static int lapwing_accept(int listener)
    {
    #ifdef __linux__
        return accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    #else
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0 && (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)) {
            close(fd);
            return -1;
        }
        return fd;
    #endif
    }
    """
    int lapwing_accept(int listener)
    unsigned int lapwing_unacknowledged(int fd)
    int lapwing_set_blocking(int fd, int blocking)
    enum:
        MSG_NOSIGNAL


# Plaintext that is encrypted in one go: what leaves as ciphertext is held until the kernel takes it, so this bounds it.
cdef enum:
    MAX_ENCRYPTED = 256 * 1024
    # Bytes that another carrier is given at once: so much it may have to hold.
    MAX_WRITTEN = 64 * 1024
    # A TLS record at most, with its header (RFC 8446 section 5.2; RFC 5246 section 6.2.3 allows it the most).
    MAX_CIPHERTEXT = 16 * 1024 + 2048 + 5


cdef unsigned int unacknowledged_on(int fd) noexcept:
    return lapwing_unacknowledged(fd)


cdef inline Py_ssize_t outcome_of(Py_ssize_t count, int failure) noexcept:
    """The outcome of a system call: a number of bytes, NOTHING_YET or FAILED."""
    if count >= 0:
        return count
    return NOTHING_YET if failure == EAGAIN or failure == EINTR else FAILED


cdef int raise_failure(int failure) except -1:
    """Raise the OSError of an `errno` that was put aside."""
    raise OSError(failure, os.strerror(failure))


cdef int accept_connection(int listener) except -2:
    cdef int fd = lapwing_accept(listener)
    # A connection that ended before it was accepted is not this end's failure.
    if fd < 0 and errno not in (EAGAIN, ECONNABORTED, EINTR, EPROTO):
        PyErr_SetFromErrno(OSError)
    return fd


cdef int gather(
    msghdr *message, iovec *pieces, void *first, size_t first_size, void *second, size_t second_size
) noexcept:
    """Make a message of two pieces for sendmsg."""
    pieces[0].iov_base = first
    pieces[0].iov_len = first_size
    pieces[1].iov_base = second
    pieces[1].iov_len = second_size
    memset(message, 0, sizeof(msghdr))
    message.msg_iov = pieces
    message.msg_iovlen = 2
    return 0


cdef int aim(
    msghdr *message, iovec *pieces, const Landing *landing, unsigned char *buffer, size_t size
) noexcept:
    """Make a message of three pieces for recvmsg: the head, the room, and the buffer behind the head.

    Behind a head there has to be place in the buffer for the room, too: the header may not be the one expected.
    """
    pieces[0].iov_base = buffer
    pieces[0].iov_len = landing.head
    pieces[1].iov_base = landing.room
    pieces[1].iov_len = landing.room_size
    pieces[2].iov_base = buffer + landing.head
    pieces[2].iov_len = size - landing.head - landing.room_size if landing.head else size
    memset(message, 0, sizeof(msghdr))
    message.msg_iov = pieces
    message.msg_iovlen = 3
    return 0


@cython.final
@cython.freelist(32)
@cython.no_gc_clear
cdef class Stream:
    """A connected socket's descriptor, or another carrier, owned: it is closed with the stream.

    Args:
        fd: the descriptor; -1 with another carrier.
        tls: the session that encrypts the traffic, or None.
        carrier: carries the bytes in place of a descriptor, or None.
    """

    def __init__(self, int fd, TLS tls=None, *, Carrier carrier=None):
        self.fd = fd
        self.tls = tls
        self.carrier = carrier
        if carrier is not None:
            self.set_addresses(carrier.local_address(), carrier.peer_address())
            return
        take_addresses(fd, &self.local, &self.peer)

    def __cinit__(self):
        self.fd = -1

    @property
    def local_address(self):
        """This end's address, as `socket.getsockname` gives it; known after closing, too."""
        return read_address(&self.local)

    @property
    def peer_address(self):
        """The peer's address, as `socket.getpeername` gives it; known after closing, too."""
        return read_address(&self.peer)

    @property
    def ssl_object(self):
        """What tells of the TLS session, its own or the carrier's; None without TLS."""
        if self.tls is not None:
            return self.tls.ssl_object
        return None if self.carrier is None else self.carrier.tls_session()

    cdef int set_addresses(self, tuple local, tuple peer) except -1:
        write_address(&self.local, local)
        return write_address(&self.peer, peer)

    def detach(self):
        """Return the descriptor, which is the caller's from now on."""
        cdef int fd = self.fd
        self.fd = -1
        return fd

    def discard(self):
        """Close a connection that was accepted and is not wanted."""
        self.close()

    def __dealloc__(self):
        if self.fd >= 0:
            c_close(self.fd)
        if self.carrier is not None and not self.carrier.is_closed:
            self.carrier.close()

    cdef int set_blocking(self, bint is_blocking) except -1:
        if self.carrier is not None:
            raise RuntimeError("only a descriptor can be waited for in a thread, and this connection has none")
        if lapwing_set_blocking(self.fd, is_blocking) < 0:
            PyErr_SetFromErrno(OSError)
        self.is_blocking = is_blocking
        if self.lock is None:
            self.lock = threading.RLock()
        return 0

    cdef Py_ssize_t receive(self, const Landing *landing, unsigned char *buffer, size_t size) except -2:
        if self.tls is None:
            return self.receive_plain(landing, buffer, size)
        if landing is NULL or landing.room is NULL:
            return self.receive_tls(NULL, 0, buffer, size)
        return self.receive_tls(landing.room, landing.room_size, buffer, size)

    cdef Py_ssize_t receive_plain(self, const Landing *landing, unsigned char *buffer, size_t size) except -2:
        cdef iovec pieces[3]
        cdef msghdr message
        cdef Py_ssize_t count
        cdef int fd = self.fd
        cdef int failure = 0
        cdef bint is_simple = landing is NULL or landing.room is NULL
        if self.is_blocking:
            if not is_simple:
                aim(&message, pieces, landing, buffer, size)
            with nogil:
                count = c_recv(fd, buffer, size, 0) if is_simple else c_recvmsg(fd, &message, 0)
                if count < 0:
                    failure = errno     # becoming a thread of Python's again may change it
            count = outcome_of(count, failure)
        else:
            count = self.take(landing, buffer, size)
            failure = errno
        if count == FAILED or (count == END_OF_STREAM and self.lost):
            raise_failure(self.lost or failure)
        if count == NOTHING_YET and self.is_blocking and failure == EINTR:
            PyErr_CheckSignals()
        return count

    cdef Py_ssize_t take(self, const Landing *landing, unsigned char *buffer, size_t size) noexcept:
        cdef iovec pieces[3]
        cdef msghdr message
        cdef Py_ssize_t count
        if self.carrier is not None:
            return self.carrier.take(landing, buffer, size)
        if landing is NULL or landing.room is NULL:
            count = c_recv(self.fd, buffer, size, MSG_DONTWAIT)
        else:
            aim(&message, pieces, landing, buffer, size)
            count = c_recvmsg(self.fd, &message, MSG_DONTWAIT)
        return outcome_of(count, errno)

    cdef Py_ssize_t receive_tls(
        self, unsigned char *room, size_t room_size, unsigned char *buffer, size_t size
    ) except -2:
        """Read ciphertext into `buffer`, and decrypt it into `room`, or into the beginning of `buffer` without one."""
        cdef Py_ssize_t count = NOTHING_YET
        cdef unsigned char *ciphertext = buffer
        if room_size == 0:
            # The session may hold part of a record. So far ahead, its rest is used up before it is written over.
            room, room_size = buffer, size
            ciphertext += MAX_CIPHERTEXT
            size -= MAX_CIPHERTEXT
        else:
            size = min(size, room_size + MAX_CIPHERTEXT)  # bytes beyond the room have to be put away
        if is_clogged(self) and not self.push():
            return NOTHING_YET
        if self.tls.holds_input():
            count = self.decrypt(NULL, 0, room, room_size)
        if count != NOTHING_YET:
            return count
        count = self.receive_plain(NULL, ciphertext, size)
        if count == NOTHING_YET:
            return NOTHING_YET
        if count == 0:
            self.was_cut = True
            return END_OF_STREAM
        return self.decrypt(ciphertext, count, room, room_size)

    cdef Py_ssize_t decrypt(
        self, unsigned char *ciphertext, size_t ciphertext_size, unsigned char *buffer, size_t size
    ) except -2:
        """Hand ciphertext to the session, if there is some, and decrypt the present input into `buffer`."""
        if self.lock is None:
            return self.decrypt_unlocked(ciphertext, ciphertext_size, buffer, size)
        with self.lock:
            return self.decrypt_unlocked(ciphertext, ciphertext_size, buffer, size)

    cdef Py_ssize_t decrypt_unlocked(
        self, unsigned char *ciphertext, size_t ciphertext_size, unsigned char *buffer, size_t size
    ) except -2:
        cdef TLS tls = self.tls
        cdef Py_ssize_t count = 0
        if ciphertext_size:
            tls.take_in(ciphertext, ciphertext_size)
        try:
            if tls.established:
                count = tls.decrypt(buffer, size)
        finally:
            tls.keep()
        if tls.established and tls.has_output() and (self.count_answers() or ciphertext_size):
            try:
                self.push()
            except OSError:
                if count == 0:  # else what came counts first, and the next send finds the same
                    raise
        if count:
            return count
        if tls.is_cut:
            self.was_cut = True
            return END_OF_STREAM
        return END_OF_STREAM if tls.is_ended else NOTHING_YET

    cdef bint count_answers(self) except -1:
        """Count the output that the session has just made by itself; returns whether it has made anything."""
        cdef size_t unsent = self.tls.unsent()
        if unsent <= self.unsent:
            return False
        poke(&self.answers, self.answers + unsent - self.unsent)
        return True

    cdef Py_ssize_t send(
        self, const unsigned char *first, size_t first_size, const unsigned char *second, size_t second_size
    ) except -1:
        if self.tls is None:
            if self.carrier is not None:
                return self.take_over(first, first_size, second, second_size)
            return self.send_plain(first, first_size, second, second_size)
        first_size = min(first_size, <size_t>MAX_ENCRYPTED)
        second_size = min(second_size, MAX_ENCRYPTED - first_size)
        if self.lock is None:
            return self.encrypt(first, first_size, second, second_size)
        with self.lock:
            return self.encrypt(first, first_size, second, second_size)

    cdef Py_ssize_t encrypt(
        self, const unsigned char *first, size_t first_size, const unsigned char *second, size_t second_size
    ) except -1:
        self.tls.encrypt(first, first_size, second, second_size)
        self.unsent = self.tls.unsent()
        return first_size + second_size

    cdef Py_ssize_t take_over(
        self, const unsigned char *first, size_t first_size, const unsigned char *second, size_t second_size
    ) except -1:
        """Copy the output for the carrier to an object of its own: no pointer is in use while Python code runs."""
        cdef bytes data
        first_size = min(first_size, <size_t>MAX_WRITTEN)
        second_size = min(second_size, MAX_WRITTEN - first_size)
        data = PyBytes_FromStringAndSize(NULL, first_size + second_size)
        if first_size:  # else `first` may be NULL, which memcpy must not be given
            memcpy(PyBytes_AS_STRING(data), first, first_size)
        if second_size:
            memcpy(PyBytes_AS_STRING(data) + first_size, second, second_size)
        self.carrier.outgoing = data if self.carrier.outgoing is None else self.carrier.outgoing + data
        return first_size + second_size

    cdef Py_ssize_t send_carried(self, const unsigned char *data, size_t size) except -1:
        """Write ciphertext to the carrier."""
        size = min(size, <size_t>MAX_WRITTEN)
        self.take_over(data, size, NULL, 0)
        self.push_carried()
        return size

    cdef Py_ssize_t send_plain(
        self, const unsigned char *first, size_t first_size, const unsigned char *second, size_t second_size
    ) except -1:
        cdef Py_ssize_t count
        cdef int fd = self.fd
        cdef int failure = 0
        if self.carrier is not None:
            return self.send_carried(first, first_size)
        if self.is_blocking and second_size == 0:
            with nogil:  # a thread may be waiting for it
                count = c_send(fd, first, first_size, MSG_NOSIGNAL | MSG_DONTWAIT)
                if count < 0:
                    failure = errno
            count = self.note_sent(outcome_of(count, failure), first_size, failure)
        else:
            count = self.offer(first, first_size, second, second_size)
            failure = errno
        if count == FAILED:
            raise_failure(failure)
        return count

    cdef Py_ssize_t offer(
        self, const unsigned char *first, size_t first_size, const unsigned char *second, size_t second_size
    ) noexcept:
        cdef iovec pieces[2]
        cdef msghdr message
        cdef Py_ssize_t count
        if second_size == 0:
            count = c_send(self.fd, first, first_size, MSG_NOSIGNAL | MSG_DONTWAIT)
        else:
            gather(&message, pieces, <void *>first, first_size, <void *>second, second_size)
            count = c_sendmsg(self.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT)
        return self.note_sent(outcome_of(count, errno), first_size + second_size, errno)

    cdef Py_ssize_t note_sent(self, Py_ssize_t count, size_t size, int failure) noexcept:
        """Note whether the kernel took all; returns how many bytes it did, or FAILED."""
        if count == NOTHING_YET:
            count = 0
        elif count == FAILED and self.hears_out:
            self.lost = failure
            count = size
        self.is_full = count >= 0 and <size_t>count < size
        return count

    cdef bint push(self) except -1:
        if self.tls is None and self.carrier is None:
            return True
        if self.lock is None:
            return self.push_alone()
        with self.lock:
            return self.push_alone()

    cdef bint push_alone(self) except -1:
        if is_native(self):
            return self.push_all()
        if self.is_pushing:
            return False    # this is called from within: the caller further out goes on with what there is then
        self.is_pushing = True
        try:
            return self.push_carried() if self.tls is None else self.push_all()
        finally:
            self.is_pushing = False

    cdef bint push_carried(self) except -1:
        """Have the carrier write the output that was taken over."""
        cdef Carrier carrier = self.carrier
        cdef bytes data = carrier.outgoing
        if data is not None and not carrier.is_full:
            carrier.outgoing = None
            try:
                carrier.write(data)
            except OSError as error:
                if not self.hears_out:
                    raise
                self.lost = error.errno
        self.is_full = carrier.is_full
        return not self.is_full

    cdef bint push_all(self) except -1:
        cdef Buffer *waiting
        while self.tls.has_output():
            if self.carrier is not None and self.carrier.is_full:
                self.is_full = True
                self.unsent = self.tls.unsent()
                return False
            waiting = self.tls.output()
            buffer_consume(waiting, self.send_plain(waiting.data + waiting.start, buffer_size(waiting), NULL, 0))
            if self.is_full:
                self.unsent = self.tls.unsent()
                return False
        self.is_full = self.carrier is not None and self.carrier.is_full
        self.unsent = 0
        poke(&self.answers, 0)
        return True

    cdef bint is_reentered(self) except -1:
        # Another thread that pushes holds the lock.
        return self.is_pushing and (self.lock is None or self.lock._is_owned())

    cdef bint needs_push(self) except -1:
        """Whether ciphertext waits to be sent, or output waits in the carrier."""
        if self.carrier is not None and (self.carrier.unsent or self.carrier.outgoing is not None):
            return True
        return self.tls is not None and self.tls.has_output()

    cdef bint holds_input(self) except -1:
        """Whether `receive` has something that the descriptor's readiness does not show."""
        if self.carrier is not None and self.carrier.holds_input():
            return True
        return self.tls is not None and self.tls.holds_input()

    cdef bint has_news(self) noexcept:
        """Whether TLS, or the carrier, has ended or failed, and `receive` is to say so."""
        if self.carrier is not None and self.carrier.is_over():
            return True
        return self.tls is not None and self.tls.has_news()

    cdef size_t held_bytes(self) noexcept:
        cdef size_t held = peek(&self.unsent)
        return held if self.carrier is None else held + peek(&self.carrier.held)

    cdef int hear_out(self, bint wanted) noexcept:
        self.hears_out = wanted
        self.lost = 0
        return 0

    cdef unsigned int unacknowledged(self) noexcept:
        return lapwing_unacknowledged(self.fd) if self.carrier is None else self.carrier.unacknowledged()

    cdef int shut_down(self) except -1:
        """End the sending direction: TLS with its close notice, and TCP."""
        self.end_tls()
        if self.carrier is not None:
            self.carrier.shut_down()
        elif self.fd >= 0:
            c_shutdown(self.fd, SHUT_WR)
        return 0

    cdef int cut_off(self) except -1:
        if self.carrier is not None:
            return self.carrier.cut_off()
        c_shutdown(self.fd, SHUT_RDWR)
        return 0

    cdef int end_tls(self) except -1:
        """Send the close notice; a stream that broke needs none, so errors here do not matter."""
        if self.tls is None or not self.tls.can_end():
            return 0
        if self.lock is None:
            self.tls.end()
        else:
            with self.lock:
                self.tls.end()
        try:
            self.push()
        except OSError:
            pass
        return 0

    cdef int abandon(self) noexcept:
        if self.carrier is not None:
            self.carrier.abandon()
        if self.fd >= 0:
            c_close(self.fd)
            self.fd = -1
        return 0

    cdef int close(self) except -1:
        """Close the descriptor, after the close notice of TLS; nothing more if it is closed."""
        cdef int fd = self.fd
        if self.carrier is not None:
            return self.close_carrier()
        if fd < 0:
            return 0
        try:
            self.end_tls()
        finally:    # also when the handler of a signal raises in there
            if self.fd >= 0:
                self.fd = -1
                self.unsent = 0
                c_close(fd)
        return 0

    cdef int close_carrier(self) except -1:
        if self.carrier.is_closed:
            return 0
        try:
            self.end_tls()
        finally:
            self.unsent = 0
            self.carrier.close()
        return 0
