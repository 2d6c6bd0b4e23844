# One TLS session without I/O: ciphertext in and out, plaintext in and out.

from ..native.buffer cimport Buffer


cdef extern from "pipe.h":
    ctypedef struct SSL:
        pass
    ctypedef struct BIO:
        pass
    ctypedef struct Pipe "lapwing_pipe":
        Buffer held
        const unsigned char *lent
        size_t lent_size
        Buffer output


cdef class TLS:
    cdef object session         # ssl.SSLObject
    cdef SSL *ssl               # its own, which is called directly; NULL when everything goes through `session`
    cdef BIO *bio               # the two ends of `pipe`, for `ssl`
    cdef Pipe pipe              # ciphertext that came, for `ssl`; ciphertext for the peer, always
    cdef object incoming        # ssl.MemoryBIO: ciphertext that came, for `session`
    cdef object outgoing        # ssl.MemoryBIO: ciphertext for the peer, of `session`
    cdef bytes plaintext        # for the peer, to be encrypted through `session`; None when there is none
    cdef TLS carrier            # the session that this one goes through; None when that is the network
    cdef bint is_native         # whether neither this session nor its carrier calls Python code for records
    cdef bint established
    cdef bint is_ended          # whether the peer's close notify has come
    cdef bint is_cut            # whether the carrier ended without the end of this session
    cdef object failure         # the error that broke the session behind the last decrypted bytes; None

    cdef bint handshake(self) except -1

    # Take input from the network. It is used where it lies until `keep`, which puts away the unused rest.
    cdef int take_in(self, const unsigned char *ciphertext, size_t size) except -1
    cdef int keep(self) except -1

    # Decrypt the present input into `room`; returns how many bytes. Without any, `is_ended` tells whether
    # more may come.
    cdef Py_ssize_t decrypt(self, unsigned char *room, size_t size) except -1

    # Take over two pieces of plaintext, to be encrypted by `output` at the latest. This runs no Python code.
    cdef int encrypt(
        self, const unsigned char *first, size_t first_size, const unsigned char *second, size_t second_size) except -1

    # Whether `decrypt` has something to say: the end of the session counts, of which the network may not tell.
    cdef bint holds_input(self) except -1
    # Whether the session has ended, or failed.
    cdef bint has_news(self) noexcept

    # The output for the network, to be consumed there; put together by `output`, if `has_output` says that there is
    # some. Unless the session is native, `output` may run Python code, which must not call it again.
    cdef bint has_output(self) except -1
    cdef size_t unsent(self) except? 0
    cdef Buffer *output(self) except NULL

    # Put the close notice into the output, and the carrier's; a session that broke needs none.
    cdef int end(self) except -1
    cdef bint can_end(self) noexcept

    # Steps of the above, for this module alone.
    cdef Py_ssize_t decrypt_directly(self, unsigned char *room, size_t size) except -1
    cdef Py_ssize_t decrypt_through_session(self, unsigned char *room, size_t size) except -1
    cdef int encrypt_directly(self, const unsigned char *data, size_t size) except -1
    cdef int encrypt_through_session(self) except -1
    cdef int unwrap(self, const unsigned char *ciphertext, size_t size) except -1
