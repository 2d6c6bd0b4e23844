"""One TLS session without I/O, over an `ssl.SSLObject` (RFC 8446, RFC 5246).

The `ssl` module makes the session and its handshake. Records then go to OpenSSL directly where that can be had
(`openssl.h`), which spares more than half of the cost of a small one, and else through the `ssl` module and its memory
BIOs. Both ways do the same: the tests go through both. `LAPWING_DIRECT_TLS=0` in the environment leads to the second.

OpenSSL is asked for plaintext only while there is ciphertext or plaintext left: to be told that there is none costs as
much as decrypting a record. Nothing here lets other threads run, but for handshakes and the `ssl` module.

The `ssl` module runs Python code: its own, and with it signal handlers, tracers and the garbage collector. That code
may use the connection whose record is being encrypted. So `encrypt` copies the plaintext to an object of its own, and
`output` gives that to the `ssl` module: no pointer of the caller is in use while Python code runs. `Stream` refuses a
second `output` within the first.
"""

import os
import ssl
import sys

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.string cimport memcpy

from ..native.buffer cimport buffer_append, buffer_consume, buffer_free, buffer_reserve, buffer_size

__all__ = ["TLS", "is_direct", "set_direct"]


cdef extern from "openssl.h":
    enum:
        SSL_ERROR_SSL
        SSL_ERROR_WANT_READ
        SSL_ERROR_ZERO_RETURN
    size_t pipe_input "lapwing_pipe_input"(const Pipe *pipe)
    int pipe_keep "lapwing_pipe_keep"(Pipe *pipe)
    int find_openssl "lapwing_find_openssl"(const char *module)
    SSL *ssl_of "lapwing_ssl_of"(object ssl_socket)
    BIO *connect_pipe "lapwing_connect_pipe"(SSL *session, Pipe *pipe)
    void disconnect_pipe "lapwing_disconnect_pipe"(BIO *bio)
    bint ssl_read "lapwing_ssl_read"(SSL *session, void *room, size_t size, size_t *count, int *code)
    bint ssl_write "lapwing_ssl_write"(SSL *session, const void *bytes, size_t size, size_t *count, int *code)
    bint ssl_pending "lapwing_ssl_pending"(SSL *session)
    const char *ssl_reason "lapwing_ssl_reason"()


cdef extern from *:
    enum:
        PyBUF_READ
        PyBUF_WRITE


cdef enum:
    # The plaintext of one record (RFC 8446 section 5.1), and no less than the overhead of a record.
    MAX_RECORD = 16 * 1024
    RECORD_OVERHEAD = 64


cdef object _find():
    """Look whether OpenSSL can be called directly: the type that the `ssl` module keeps its sessions in, or None."""
    module = sys.modules.get("_ssl")
    file = getattr(module, "__file__", None)
    return None if file is None or find_openssl(os.fsencode(file)) < 0 else getattr(module, "_SSLSocket", None)


cdef object _session_type = _find()
cdef bint _is_found = _session_type is not None
cdef bint _is_direct = _is_found and os.environ.get("LAPWING_DIRECT_TLS", "1") != "0"


def is_direct():
    """Return whether the records of new sessions go to OpenSSL directly, rather than through the `ssl` module."""
    return _is_direct


def set_direct(bint wanted):
    """Choose the way of new sessions: directly, where that can be had, or through the `ssl` module.

    Returns:
        Whether it is the direct one now.
    """
    global _is_direct
    _is_direct = wanted and _is_found
    return _is_direct


cdef object _failure(int code):
    """Make an exception of what OpenSSL says, as the `ssl` module does."""
    cdef const char *reason = ssl_reason()
    if code != SSL_ERROR_SSL or reason is NULL:
        return ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the TLS session ended in violation of the protocol")
    text = reason.decode("ascii", "replace")
    name = text.upper().replace(" ", "_")
    failure = ssl.SSLError(code, f"[SSL: {name}] {text}")
    failure.library = "SSL"
    failure.reason = name
    return failure


@cython.final
@cython.no_gc_clear
cdef class TLS:
    """One TLS session without I/O.

    Args:
        context: an `ssl.SSLContext`.
        server_side: which end this is.
        server_hostname: the name that the server's certificate must carry, and that is sent as SNI; clients only.
        carrier: an established session that this one goes through, as TLS to a proxy carries TLS to a server; it
            belongs to this one from then on.
    """

    def __init__(self, context, *, bint server_side, server_hostname=None, TLS carrier=None):
        if self.session is not None:
            raise RuntimeError("a TLS session is made once")
        self.carrier = carrier
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.session = context.wrap_bio(
            self.incoming, self.outgoing, server_side=server_side, server_hostname=server_hostname)
        held = getattr(self.session, "_sslobj", None)
        if _is_direct and type(held) is _session_type:
            self.ssl = ssl_of(held)
            self.bio = NULL if self.ssl is NULL else connect_pipe(self.ssl, &self.pipe)
            if self.bio is NULL:
                self.ssl = NULL
            else:
                self.incoming = self.outgoing = None
        self.is_native = self.ssl is not NULL and (carrier is None or carrier.is_native)
        self.is_cut = carrier is not None and carrier.is_ended

    def __dealloc__(self):
        if self.bio is not NULL:
            disconnect_pipe(self.bio)
        buffer_free(&self.pipe.held)
        buffer_free(&self.pipe.output)

    @property
    def ssl_object(self):
        """The `ssl.SSLObject`, for its methods `version()`, `cipher()`, `getpeercert()`."""
        return self.session

    cdef bint handshake(self) except -1:
        """Go on with the TLS handshake; returns whether it is done."""
        if not self.established:
            try:
                self.session.do_handshake()
            except ssl.SSLWantReadError:
                return False
            self.established = True
        return True

    # --- from the peer ---------------------------------------------------------------------------------------------

    cdef int take_in(self, const unsigned char *ciphertext, size_t size) except -1:
        if self.carrier is not None:
            return self.unwrap(ciphertext, size)
        if self.ssl is NULL:
            self.incoming.write(PyMemoryView_FromMemory(<char *>ciphertext, size, PyBUF_READ))
        else:
            self.pipe.lent = ciphertext
            self.pipe.lent_size = size
        return 0

    cdef int unwrap(self, const unsigned char *ciphertext, size_t size) except -1:
        """Take input through the carrier."""
        cdef TLS carrier = self.carrier
        cdef Py_ssize_t count
        cdef bytearray record = bytearray(MAX_RECORD)
        cdef unsigned char *room = record
        carrier.take_in(ciphertext, size)
        try:
            while carrier.holds_input():
                count = carrier.decrypt(room, MAX_RECORD)
                if count == 0:
                    if carrier.is_ended:
                        carrier.established = False
                        self.is_cut = True
                    break
                if self.ssl is NULL:
                    self.incoming.write(PyMemoryView_FromMemory(<char *>room, count, PyBUF_READ))
                elif buffer_append(&self.pipe.held, room, count) < 0:
                    raise MemoryError
        finally:
            carrier.keep()
        return 0

    cdef int keep(self) except -1:
        if pipe_keep(&self.pipe) < 0:
            raise MemoryError
        return 0

    cdef Py_ssize_t decrypt(self, unsigned char *room, size_t size) except -1:
        cdef Py_ssize_t count = 0
        if self.failure is None:
            count = self.decrypt_through_session(room, size) if self.ssl is NULL else self.decrypt_directly(room, size)
        if count == 0 and self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return count

    cdef Py_ssize_t decrypt_directly(self, unsigned char *room, size_t size) except -1:
        cdef size_t count = 0
        cdef size_t step = 0
        cdef int code = 0
        while count < size and (pipe_input(&self.pipe) or ssl_pending(self.ssl)):
            if ssl_read(self.ssl, room + count, size - count, &step, &code):
                count += step
                continue
            if code == SSL_ERROR_ZERO_RETURN:
                self.is_ended = True
            elif code != SSL_ERROR_WANT_READ:
                self.failure = _failure(code)
            break
        return count

    cdef Py_ssize_t decrypt_through_session(self, unsigned char *room, size_t size) except -1:
        cdef size_t count = 0
        cdef size_t came, ready
        cdef Py_ssize_t step
        while count < size:
            came, ready = self.incoming.pending, self.session.pending()
            if not came and not ready:
                break
            try:
                step = self.session.read(
                    size - count, PyMemoryView_FromMemory(<char *>room + count, size - count, PyBUF_WRITE))
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as error:
                self.failure = error
                break
            except BaseException as error:  # a signal handler's, as Ctrl-C raises it
                if self.incoming.pending != came or self.session.pending() != ready:
                    self.failure = ssl.SSLError(
                        ssl.SSL_ERROR_SSL, "a signal handler raised while a record was decrypted, which is lost")
                    raise
                if count == 0:
                    raise
                self.failure = error
                break
            if step == 0:
                self.is_ended = True
                break
            count += step
        return count

    cdef bint holds_input(self) except -1:
        if self.has_news():
            return True
        if self.ssl is NULL:
            return self.incoming.pending or self.session.pending()
        return pipe_input(&self.pipe) or ssl_pending(self.ssl)

    cdef bint has_news(self) noexcept:
        return self.is_ended or self.is_cut or self.failure is not None

    # --- for the peer ----------------------------------------------------------------------------------------------

    cdef int encrypt(
        self, const unsigned char *first, size_t first_size, const unsigned char *second, size_t second_size
    ) except -1:
        cdef size_t size = first_size + second_size
        cdef bytes plaintext
        if self.ssl is not NULL:
            # For all records at once, rather than for each in turn.
            if buffer_reserve(&self.pipe.output, size + (size // MAX_RECORD + 2) * RECORD_OVERHEAD) is NULL:
                raise MemoryError
            self.encrypt_directly(first, first_size)
            return self.encrypt_directly(second, second_size)
        plaintext = PyBytes_FromStringAndSize(NULL, size)
        if first_size:  # else `first` may be NULL, which memcpy must not be given
            memcpy(PyBytes_AS_STRING(plaintext), first, first_size)
        if second_size:
            memcpy(PyBytes_AS_STRING(plaintext) + first_size, second, second_size)
        self.plaintext = plaintext if self.plaintext is None else self.plaintext + plaintext
        return 0

    cdef int encrypt_directly(self, const unsigned char *data, size_t size) except -1:
        cdef size_t count = 0
        cdef int code = 0
        while size:
            if not ssl_write(self.ssl, data, size, &count, &code):
                raise _failure(code)
            data += count
            size -= count
        return 0

    cdef int encrypt_through_session(self) except -1:
        """Encrypt the output that was taken over: all of it or, when a signal handler raises before, nothing."""
        cdef size_t before = self.outgoing.pending
        try:
            self.session.write(self.plaintext)
        finally:
            if self.outgoing.pending != before:
                self.plaintext = None
        return 0

    cdef bint has_output(self) except -1:
        if buffer_size(&self.pipe.output) or self.plaintext is not None:
            return True
        if self.outgoing is not None and self.outgoing.pending:
            return True
        return self.carrier is not None and self.carrier.has_output()

    cdef size_t unsent(self) except? 0:
        cdef size_t size = buffer_size(&self.pipe.output)
        if self.plaintext is not None:
            size += PyBytes_GET_SIZE(self.plaintext)
        if self.outgoing is not None:
            size += <size_t>self.outgoing.pending
        return size if self.carrier is None else size + self.carrier.unsent()

    cdef Buffer *output(self) except NULL:
        cdef Buffer *waiting = &self.pipe.output
        cdef bytes ciphertext
        if self.plaintext is not None:
            self.encrypt_through_session()
        if self.outgoing is not None and self.outgoing.pending:
            ciphertext = self.outgoing.read()
            if buffer_append(waiting, PyBytes_AS_STRING(ciphertext), PyBytes_GET_SIZE(ciphertext)) < 0:
                raise MemoryError
        if self.carrier is None:
            return waiting
        if buffer_size(waiting):
            if self.carrier.established:  # nothing goes anywhere any more when it has ended
                self.carrier.encrypt(waiting.data + waiting.start, buffer_size(waiting), NULL, 0)
            buffer_consume(waiting, buffer_size(waiting))
        return self.carrier.output()

    cdef int end(self) except -1:
        try:
            if self.established:
                self.established = False
                self.plaintext = None   # behind the close notice there is none
                self.session.unwrap()
        except ssl.SSLError:
            pass
        if self.carrier is None or not self.carrier.established:
            return 0
        try:
            self.output()  # the last records of this session go first
        except ssl.SSLError:
            pass
        return self.carrier.end()

    cdef bint can_end(self) noexcept:
        return self.established or (self.carrier is not None and self.carrier.established)
