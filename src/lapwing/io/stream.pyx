"""The bytes of one connection: a socket's descriptor, with TLS or without. Knows no frame and no loop.

TLS has no descriptor of its own (`tls`): ciphertext is read and sent here like any other bytes, so that the same code
serves a reactor and a blocking client. The session has a lock as soon as threads may share the stream; in a reactor,
which has one thread, it needs none.
"""

import os
import socket
import struct
import sys
import threading

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from libc.errno cimport EAGAIN, ECONNABORTED, EINTR, EPROTO, errno
from libc.string cimport memcpy, memset

from ..native.buffer cimport Buffer, buffer_consume, buffer_size
from ..native.landing cimport Landing
from ..native.sharing cimport poke

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
        SHUT_WR
    ctypedef unsigned int socklen_t
    cdef struct sockaddr:
        pass
    cdef struct sockaddr_storage:
        pass
    int c_getsockname "getsockname"(int fd, sockaddr *address, socklen_t *size)
    int c_getpeername "getpeername"(int fd, sockaddr *address, socklen_t *size)
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
    # A TLS record at most, with its header (RFC 8446 section 5.2; RFC 5246 section 6.2.3 allows it the most).
    MAX_CIPHERTEXT = 16 * 1024 + 2048 + 5


cdef inline Py_ssize_t outcome_of(Py_ssize_t count, int failure) noexcept:
    """What a system call has said: a number of bytes, NOTHING_YET or FAILED."""
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


cdef object read_address(const Address *address):
    """Put a socket address into the form of the `socket` module; None for a family that has no numbers."""
    cdef bytes raw = (<char *>address.bytes)[:address.size]
    if len(raw) < 8:
        return None
    cdef int family = (<unsigned short *><char *>raw)[0]
    cdef int port = int.from_bytes(raw[2:4], "big")
    if family == socket.AF_INET:
        return (socket.inet_ntop(socket.AF_INET, raw[4:8]), port)
    if family == socket.AF_INET6:
        host = socket.inet_ntop(socket.AF_INET6, raw[8:24])
        return (host, port, int.from_bytes(raw[4:8], "big"), int.from_bytes(raw[24:28], sys.byteorder))
    return None


cdef int write_address(Address *address, tuple given) except -1:
    """The reverse of `read_address`, for IPv4 and IPv6."""
    cdef bytes raw
    if len(given) == 2:
        raw = struct.pack("=H", socket.AF_INET) + given[1].to_bytes(2, "big") + socket.inet_aton(given[0])
    else:
        raw = struct.pack("=H", socket.AF_INET6) + given[1].to_bytes(2, "big") + bytes(4)
        raw += socket.inet_pton(socket.AF_INET6, given[0]) + bytes(4)
    address.size = <unsigned char>len(raw)
    memcpy(address.bytes, PyBytes_AS_STRING(raw), len(raw))
    return 0


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


cdef int store_address(Address *address, const sockaddr_storage *storage, socklen_t size) noexcept:
    address.size = <unsigned char>min(size, sizeof(address.bytes))
    memcpy(address.bytes, storage, address.size)
    return 0


@cython.final
@cython.no_gc_clear
cdef class Stream:
    """A connected socket's descriptor, owned: it is closed with the stream.

    Args:
        fd: the descriptor.
        tls: the session that encrypts what goes over it, or None.
    """

    def __init__(self, int fd, TLS tls=None):
        cdef sockaddr_storage storage
        cdef socklen_t size = sizeof(storage)
        self.fd = fd
        self.tls = tls
        if c_getsockname(fd, <sockaddr *>&storage, &size) == 0:
            store_address(&self.local, &storage, size)
        size = sizeof(storage)
        if c_getpeername(fd, <sockaddr *>&storage, &size) == 0:
            store_address(&self.peer, &storage, size)

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

    cdef int set_addresses(self, tuple local, tuple peer) except -1:
        write_address(&self.local, local)
        return write_address(&self.peer, peer)

    def __dealloc__(self):
        if self.fd >= 0:
            c_close(self.fd)

    cdef int set_blocking(self, bint is_blocking) except -1:
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
            size = min(size, room_size + MAX_CIPHERTEXT)  # what goes beyond the room has to be put away
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
        """Hand ciphertext to the session, if there is some, and decrypt into `buffer` what is there then."""
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
        """Count what the session has just made for the peer by itself; returns whether it has made anything."""
        cdef size_t unsent = self.tls.unsent()
        if unsent <= self.unsent:
            return False
        poke(&self.answers, self.answers + unsent - self.unsent)
        return True

    cdef Py_ssize_t send(
        self, const unsigned char *first, size_t first_size, const unsigned char *second, size_t second_size
    ) except -1:
        if self.tls is None:
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

    cdef Py_ssize_t send_plain(
        self, const unsigned char *first, size_t first_size, const unsigned char *second, size_t second_size
    ) except -1:
        cdef Py_ssize_t count
        cdef int fd = self.fd
        cdef int failure = 0
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
        if self.tls is None:
            return True
        if self.lock is None:
            return self.push_ciphertext()
        with self.lock:
            return self.push_ciphertext()

    cdef bint push_ciphertext(self) except -1:
        if self.tls.is_native:
            return self.push_all()
        if self.is_pushing:
            return False    # this is called from within: the caller further out goes on with what there is then
        self.is_pushing = True
        try:
            return self.push_all()
        finally:
            self.is_pushing = False

    cdef bint push_all(self) except -1:
        cdef Buffer *waiting
        while self.tls.has_output():
            waiting = self.tls.output()
            buffer_consume(waiting, self.send_plain(waiting.data + waiting.start, buffer_size(waiting), NULL, 0))
            if self.is_full:
                self.unsent = self.tls.unsent()
                return False
        self.is_full = False
        self.unsent = 0
        poke(&self.answers, 0)
        return True

    cdef bint is_reentered(self) except -1:
        # Another thread that pushes holds the lock.
        return self.is_pushing and (self.lock is None or self.lock._is_owned())

    cdef bint needs_push(self) except -1:
        """Whether ciphertext waits to be sent."""
        return self.tls is not None and self.tls.has_output()

    cdef bint holds_input(self) except -1:
        """Whether `receive` has something that the descriptor's readiness does not show."""
        return self.tls is not None and self.tls.holds_input()

    cdef bint has_news(self) noexcept:
        """Whether TLS has ended, or failed, and `receive` is to say so."""
        return self.tls is not None and self.tls.has_news()

    cdef int hear_out(self, bint wanted) noexcept:
        self.hears_out = wanted
        self.lost = 0
        return 0

    cdef unsigned int unacknowledged(self) noexcept:
        return lapwing_unacknowledged(self.fd)

    cdef int shut_down(self) except -1:
        """End the sending direction: TLS with its close notice, and TCP."""
        self.end_tls()
        if self.fd >= 0:
            c_shutdown(self.fd, SHUT_WR)
        return 0

    cdef int end_tls(self) except -1:
        """Send the close notice; a stream that broke needs none, so what goes wrong here does not matter."""
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
        if self.fd >= 0:
            c_close(self.fd)
            self.fd = -1
        return 0

    cdef int close(self) except -1:
        """Close the descriptor, after the close notice of TLS; nothing more if it is closed."""
        cdef int fd = self.fd
        if fd < 0:
            return 0
        try:
            self.end_tls()
        finally:    # whatever the handler of a signal raises in there
            if self.fd >= 0:
                self.fd = -1
                self.unsent = 0
                c_close(fd)
        return 0
