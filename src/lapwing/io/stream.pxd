# The bytes of one connection, over a socket's descriptor or another carrier, with TLS or without. Knows no frame and no
# loop.

from ..native.landing cimport Landing
from ..native.sharing cimport peek
from .address cimport Address
from .carrier cimport Carrier
from .tls cimport TLS


cdef enum:
    # What `receive` returns instead of a number of bytes.
    END_OF_STREAM = 0
    NOTHING_YET = -1
    FAILED = -2


cdef enum:
    # Bytes of ciphertext that a session may make by itself while they cannot be sent: see `is_clogged`.
    MAX_ANSWERS = 16 * 1024


# Accept a connection: its descriptor, non-blocking, or -1 when none waits. Raises OSError when it cannot be accepted.
cdef int accept_connection(int listener) except -2

# Bytes sent over a socket that its peer's TCP has not acknowledged yet; 0 where the system does not tell.
cdef unsigned int unacknowledged_on(int fd) noexcept


cdef class Stream:
    cdef readonly int fd        # -1 once closed, and where there is another carrier
    cdef TLS tls                # None for a plain stream
    cdef Carrier carrier        # carries the bytes in place of the descriptor; None for nearly all
    cdef object lock            # for the TLS session, once threads may share the stream; None before
    cdef bint is_blocking
    cdef bint is_pushing        # a `push` is under way that may run Python code
    cdef readonly bint is_full  # whether the kernel took less than it was given: wait until it is writable
    cdef readonly bint was_cut  # whether TCP ended without the end of the TLS stream
    cdef bint hears_out
    cdef int lost               # the `errno` of a send that failed, see `hear_out`; 0 without one
    cdef size_t unsent          # bytes of ciphertext that the kernel has not taken
    cdef size_t answers         # bytes of it that the session made by itself, as for key updates; see `peek`
    cdef Address local
    cdef Address peer

    # Whether the descriptor is to wait in `receive`, with the GIL released. Threads may share the stream from then on.
    cdef int set_blocking(self, bint is_blocking) except -1

    # Read the present input, to the place of `landing`, and to `buffer`, which has 64 KiB or more, and more than the
    # landing; NULL stands for the buffer alone. Over TLS a landing has no head, and where it has room nothing goes to
    # the buffer. Returns how many bytes came, END_OF_STREAM, or NOTHING_YET (with a blocking descriptor: its time-out
    # expired or a signal came).
    cdef Py_ssize_t receive(self, const Landing *landing, unsigned char *buffer, size_t size) except -2

    # The same for a stream without TLS that does not wait, without an exception: FAILED with `errno` set when it is
    # lost.
    cdef Py_ssize_t take(self, const Landing *landing, unsigned char *buffer, size_t size) noexcept

    # Send the two pieces as far as the kernel takes them (with a blocking descriptor, too); returns how many bytes
    # went. `is_full` tells whether some did not. Unless the stream is direct they are taken over, to be sent by `push`:
    # call it after, and before, since the unsent output must not grow.
    cdef Py_ssize_t send(
        self, const unsigned char *first, size_t first_size, const unsigned char *second, size_t second_size) except -1

    # The same for a direct stream that does not wait, without an exception: FAILED with `errno` set when it is lost.
    cdef Py_ssize_t offer(
        self, const unsigned char *first, size_t first_size, const unsigned char *second, size_t second_size) noexcept

    # Send the output that was taken over: returns whether all is sent. Unless the stream is native, this may run Python
    # code. Called by such code it does nothing and returns False, with `is_full` as it is: the outer call goes on with
    # the output queued by then. `is_reentered` tells whether this is such a call.
    cdef bint push(self) except -1
    cdef bint is_reentered(self) except -1
    cdef bint needs_push(self) except -1
    cdef bint holds_input(self) except -1

    cdef bint has_news(self) noexcept

    # Bytes that it holds in addition to unsent output of the carrier: ciphertext, and the carrier's input.
    cdef size_t held_bytes(self) noexcept

    # Choose whether a failed send is put off, and raised by `receive` when there is nothing more to read: the last
    # input before the end (an alert of TLS, a response) tells more than the failure.
    cdef int hear_out(self, bint wanted) noexcept

    # Bytes sent that the peer's TCP has not acknowledged yet; 0 where the system does not tell.
    cdef unsigned int unacknowledged(self) noexcept

    cdef int shut_down(self) except -1
    cdef int close(self) except -1

    # End both directions at once: who waits for them in the kernel wakes up, and nothing more goes out, TLS's close
    # notice neither. The descriptor stays open.
    cdef int cut_off(self) except -1

    # Close the descriptor and say nothing to the peer: it is another process's connection, too.
    cdef int abandon(self) noexcept

    # Take addresses, in the form of the `socket` module, for the ones of the socket, which are a proxy's.
    cdef int set_addresses(self, tuple local, tuple peer) except -1

    # Steps of the above, for this module alone.
    cdef Py_ssize_t receive_plain(self, const Landing *landing, unsigned char *buffer, size_t size) except -2
    cdef Py_ssize_t receive_tls(
        self, unsigned char *room, size_t room_size, unsigned char *buffer, size_t size) except -2
    cdef Py_ssize_t decrypt(
        self, unsigned char *ciphertext, size_t ciphertext_size, unsigned char *buffer, size_t size) except -2
    cdef Py_ssize_t decrypt_unlocked(
        self, unsigned char *ciphertext, size_t ciphertext_size, unsigned char *buffer, size_t size) except -2
    cdef bint count_answers(self) except -1
    cdef Py_ssize_t encrypt(
        self, const unsigned char *first, size_t first_size, const unsigned char *second, size_t second_size) except -1
    cdef Py_ssize_t take_over(
        self, const unsigned char *first, size_t first_size, const unsigned char *second, size_t second_size) except -1
    cdef Py_ssize_t send_carried(self, const unsigned char *data, size_t size) except -1
    cdef bint push_alone(self) except -1
    cdef bint push_carried(self) except -1
    cdef int close_carrier(self) except -1
    cdef bint push_all(self) except -1
    cdef Py_ssize_t send_plain(
        self, const unsigned char *first, size_t first_size, const unsigned char *second, size_t second_size) except -1
    cdef Py_ssize_t note_sent(self, Py_ssize_t count, size_t size, int failure) noexcept
    cdef int end_tls(self) except -1


# Whether its bytes are those of the descriptor itself.
cdef inline bint is_direct(Stream stream) noexcept:
    return stream.tls is None and stream.carrier is None


# Whether sending runs no Python code.
cdef inline bint is_native(Stream stream) noexcept:
    return stream.carrier is None and (stream.tls is None or stream.tls.is_native)


# Whether the peer makes TLS answer more than it reads: key updates (RFC 8446 section 4.6.3), refused renegotiation.
# Then nothing is read until all ciphertext is sent. Ciphertext of the program's own does not count: the peer may be
# waiting for this end to read, before it reads itself.
cdef inline bint is_clogged(Stream stream) noexcept:
    return peek(&stream.answers) > MAX_ANSWERS
