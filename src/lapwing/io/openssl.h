/* TLS records through the OpenSSL that the `ssl` module of this Python has loaded.
 *
 * `ssl` makes the context, the session and the handshake, and stays in charge of them. What comes after, a record in
 * and a record out, takes several Python objects and calls each with it, which cost as much as the encryption of a
 * small message. So a session's own `SSL` is called here, with a BIO that reads from and writes to a `lapwing_pipe`.
 *
 * Nothing of OpenSSL is linked or included: its functions, all of its stable interface since 1.1.1, are looked up in
 * the library that the `_ssl` module uses. What is not public is where an `_ssl._SSLSocket` keeps its `SSL`: that is
 * done for versions of CPython whose structure is known, and OpenSSL is asked whether it belongs to that very object.
 * Wherever any of this is not so, without the GIL too, there is no direct way, and `tls` goes through the `ssl`
 * module. */
#ifndef LAPWING_OPENSSL_H
#define LAPWING_OPENSSL_H

#include <Python.h>

#include <dlfcn.h>
#include <limits.h>

#include "pipe.h"

/* Of OpenSSL's headers. */
enum {
    SSL_ERROR_SSL = 1,
    SSL_ERROR_WANT_READ = 2,
    SSL_ERROR_ZERO_RETURN = 6,
    BIO_CTRL_EOF = 2,
    BIO_CTRL_PENDING = 10,
    BIO_CTRL_FLUSH = 11,
    BIO_CTRL_WPENDING = 13,
    BIO_FLAGS_RETRY_READ = 0x01 | 0x08,
    BIO_TYPE_SOURCE_SINK = 0x0400,
    EX_DATA_OF_SSL_MODULE = 0,
};

/* One in a line: */
/* clang-format off */
#define LAPWING_OPENSSL_FUNCTIONS(function)                                                                            \
    function(int, SSL_read_ex, (SSL *, void *, size_t, size_t *))                                                      \
    function(int, SSL_write_ex, (SSL *, const void *, size_t, size_t *))                                               \
    function(int, SSL_get_error, (const SSL *, int))                                                                   \
    function(int, SSL_pending, (const SSL *))                                                                          \
    function(void, SSL_set_bio, (SSL *, BIO *, BIO *))                                                                 \
    function(void *, SSL_get_ex_data, (const SSL *, int))                                                              \
    function(BIO *, BIO_new, (const BIO_METHOD *))                                                                     \
    function(int, BIO_free, (BIO *))                                                                                   \
    function(int, BIO_up_ref, (BIO *))                                                                                 \
    function(void, BIO_set_data, (BIO *, void *))                                                                      \
    function(void *, BIO_get_data, (BIO *))                                                                            \
    function(void, BIO_set_init, (BIO *, int))                                                                         \
    function(void, BIO_set_flags, (BIO *, int))                                                                        \
    function(int, BIO_get_new_index, (void))                                                                           \
    function(BIO_METHOD *, BIO_meth_new, (int, const char *))                                                          \
    function(int, BIO_meth_set_read, (BIO_METHOD *, int (*)(BIO *, char *, int)))                                      \
    function(int, BIO_meth_set_write, (BIO_METHOD *, int (*)(BIO *, const char *, int)))                               \
    function(int, BIO_meth_set_ctrl, (BIO_METHOD *, long (*)(BIO *, int, long, void *)))                               \
    function(unsigned long, ERR_peek_error, (void))                                                                    \
    function(unsigned long, ERR_peek_last_error, (void))                                                               \
    function(void, ERR_clear_error, (void))                                                                            \
    function(const char *, ERR_reason_error_string, (unsigned long))
/* clang-format on */

#define LAPWING_MEMBER(result, name, parameters) result(*name) parameters;
static struct {
    LAPWING_OPENSSL_FUNCTIONS(LAPWING_MEMBER)
    BIO_METHOD *pipes;
} openssl;

/* --- the BIO ------------------------------------------------------------------------------------------------------ */

static inline size_t lapwing_pipe_input(const lapwing_pipe *pipe)
{
    return lapwing_buffer_size(&pipe->held) + pipe->lent_size;
}

/* Keep what is left of the lent ciphertext; -1 when there is no memory. */
static inline int lapwing_pipe_keep(lapwing_pipe *pipe)
{
    int outcome = lapwing_buffer_append(&pipe->held, pipe->lent, pipe->lent_size);
    pipe->lent_size = 0;
    return outcome;
}

static int lapwing_pipe_read(BIO *bio, char *room, int size)
{
    lapwing_pipe *pipe = openssl.BIO_get_data(bio);
    size_t count = size > 0 ? (size_t)size : 0;
    size_t held;
    if (pipe == NULL) /* its owner is gone */
        return 0;
    held = lapwing_buffer_size(&pipe->held);
    if (held) {
        count = count < held ? count : held;
        memcpy(room, pipe->held.data + pipe->held.start, count);
        lapwing_buffer_consume(&pipe->held, count);
    } else if (pipe->lent_size) {
        count = count < pipe->lent_size ? count : pipe->lent_size;
        memcpy(room, pipe->lent, count);
        pipe->lent += count;
        pipe->lent_size -= count;
    } else {
        openssl.BIO_set_flags(bio, BIO_FLAGS_RETRY_READ);
        return -1;
    }
    return (int)count;
}

static int lapwing_pipe_write(BIO *bio, const char *bytes, int size)
{
    lapwing_pipe *pipe = openssl.BIO_get_data(bio);
    if (pipe == NULL || size < 0 || lapwing_buffer_append(&pipe->output, bytes, (size_t)size) < 0)
        return -1;
    return size;
}

static long lapwing_pipe_control(BIO *bio, int what, long number, void *pointer)
{
    lapwing_pipe *pipe = openssl.BIO_get_data(bio);
    size_t size = 0;
    (void)number;
    (void)pointer;
    switch (what) {
    case BIO_CTRL_FLUSH:
        return 1;
    case BIO_CTRL_EOF:
        return pipe == NULL;
    case BIO_CTRL_PENDING:
        size = pipe == NULL ? 0 : lapwing_pipe_input(pipe);
        break;
    case BIO_CTRL_WPENDING:
        size = pipe == NULL ? 0 : lapwing_buffer_size(&pipe->output);
        break;
    }
    return size < LONG_MAX ? (long)size : LONG_MAX;
}

/* --- finding OpenSSL and a session's SSL -------------------------------------------------------------------------- */

#if !defined(Py_GIL_DISABLED) && !defined(PYPY_VERSION) && PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030E0000
#define LAPWING_KNOWS_SSL_SOCKET 1
#else
#define LAPWING_KNOWS_SSL_SOCKET 0
#endif

/* The beginning of CPython's PySSLSocket, the same in 3.11 to 3.13. */
typedef struct {
    PyObject_HEAD
    PyObject *socket;
    SSL *ssl;
} lapwing_ssl_socket;

/* Look OpenSSL up in the libraries of the `_ssl` module, whose file is given: 0, or -1 where it is not there. */
static int lapwing_find_openssl(const char *module)
{
    void *library = LAPWING_KNOWS_SSL_SOCKET ? dlopen(module, RTLD_LAZY | RTLD_NOLOAD) : NULL;
    if (library == NULL)
        return -1;
#define LAPWING_LOOK_UP(result, name, parameters)                                                                      \
    openssl.name = (result(*) parameters)dlsym(library, #name);                                                        \
    if (openssl.name == NULL)                                                                                          \
        return -1;
    LAPWING_OPENSSL_FUNCTIONS(LAPWING_LOOK_UP)
    openssl.pipes = openssl.BIO_meth_new(openssl.BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "lapwing");
    if (openssl.pipes == NULL || !openssl.BIO_meth_set_read(openssl.pipes, lapwing_pipe_read)
        || !openssl.BIO_meth_set_write(openssl.pipes, lapwing_pipe_write)
        || !openssl.BIO_meth_set_ctrl(openssl.pipes, lapwing_pipe_control))
        return -1;
    return 0; /* the library stays open: its functions are called from now on */
}

/* The SSL of an `_ssl._SSLSocket`, borrowed; NULL when it is not where it was looked for. */
static SSL *lapwing_ssl_of(PyObject *ssl_socket)
{
    SSL *ssl = ((lapwing_ssl_socket *)ssl_socket)->ssl;
    return ssl != NULL && openssl.SSL_get_ex_data(ssl, EX_DATA_OF_SSL_MODULE) == ssl_socket ? ssl : NULL;
}

/* Have a session read from and write to `pipe`; returns the BIO, owned, or NULL when there is no memory. */
static BIO *lapwing_connect_pipe(SSL *ssl, lapwing_pipe *pipe)
{
    BIO *bio = openssl.BIO_new(openssl.pipes);
    if (bio == NULL)
        return NULL;
    openssl.BIO_set_data(bio, pipe);
    openssl.BIO_set_init(bio, 1);
    openssl.BIO_up_ref(bio);
    openssl.SSL_set_bio(ssl, bio, bio); /* takes one reference for both directions */
    return bio;
}

/* The session may be used on by others: then it is at its end. */
static void lapwing_disconnect_pipe(BIO *bio)
{
    openssl.BIO_set_data(bio, NULL);
    openssl.BIO_free(bio);
}

/* --- records ------------------------------------------------------------------------------------------------------ */

/* Both return 1, or 0 with the reason in `*code`. What an earlier user of this thread has left in the queue of errors
 * would be mistaken for theirs. */
static inline int lapwing_ssl_read(SSL *ssl, void *room, size_t size, size_t *count, int *code)
{
    int outcome;
    if (openssl.ERR_peek_error())
        openssl.ERR_clear_error();
    outcome = openssl.SSL_read_ex(ssl, room, size, count);
    if (!outcome)
        *code = openssl.SSL_get_error(ssl, outcome);
    return outcome;
}

static inline int lapwing_ssl_write(SSL *ssl, const void *bytes, size_t size, size_t *count, int *code)
{
    int outcome;
    if (openssl.ERR_peek_error())
        openssl.ERR_clear_error();
    outcome = openssl.SSL_write_ex(ssl, bytes, size, count);
    if (!outcome)
        *code = openssl.SSL_get_error(ssl, outcome);
    return outcome;
}

static inline int lapwing_ssl_pending(SSL *ssl)
{
    return openssl.SSL_pending(ssl);
}

/* Say what went wrong last, and forget it; NULL when OpenSSL does not say. */
static const char *lapwing_ssl_reason(void)
{
    const char *reason = openssl.ERR_reason_error_string(openssl.ERR_peek_last_error());
    openssl.ERR_clear_error();
    return reason;
}

#endif
