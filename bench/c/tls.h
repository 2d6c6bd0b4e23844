/*
 * TLS over non-blocking sockets with OpenSSL, behind two functions that behave like recv and send. Without OpenSSL's
 * headers (BENCH_TLS is not defined) the programs are built all the same and refuse --tls.
 *
 * OpenSSL reads ahead: one receive call takes in as many records as have come. What it holds then raises no event, so
 * readers go on while `tls_has_more`.
 */
#ifndef BENCH_TLS_H
#define BENCH_TLS_H

#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "common.h"

#ifdef BENCH_TLS

#include <openssl/err.h>
#include <openssl/ssl.h>

static SSL_CTX *tls_context; /* NULL: plain TCP */

static void tls_prepare(const SSL_METHOD *method)
{
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    tls_context = SSL_CTX_new(method);
    if (tls_context == NULL)
        die("OpenSSL makes no context");
    SSL_CTX_set_read_ahead(tls_context, 1);
    SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
                                      | SSL_MODE_RELEASE_BUFFERS);
}

/* The load generator's side: the certificate is not verified, since no figure is about that. */
static inline void tls_use_as_client(void)
{
    tls_prepare(TLS_client_method());
}

static inline void tls_use_as_server(const char *certificate, const char *key)
{
    tls_prepare(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(tls_context, certificate) != 1
        || SSL_CTX_use_PrivateKey_file(tls_context, key, SSL_FILETYPE_PEM) != 1)
        die("cannot use the certificate %s with the key %s", certificate, key);
}

static inline SSL *tls_new(int fd, bool as_client)
{
    if (tls_context == NULL)
        return NULL;
    SSL *tls = SSL_new(tls_context);
    if (tls == NULL || SSL_set_fd(tls, fd) != 1)
        die("OpenSSL makes no connection");
    if (as_client)
        SSL_set_connect_state(tls);
    else
        SSL_set_accept_state(tls);
    return tls;
}

/* What a call of OpenSSL says, as recv or send would say it. */
static inline ssize_t tls_outcome(SSL *tls, int result)
{
    if (result > 0)
        return result;
    int error = SSL_get_error(tls, result);
    ERR_clear_error();
    if (error == SSL_ERROR_ZERO_RETURN)
        return 0;
    errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
    return -1;
}

static inline ssize_t tls_receive(SSL *tls, int fd, void *data, size_t length)
{
    return tls ? tls_outcome(tls, SSL_read(tls, data, (int)length)) : recv(fd, data, length, 0);
}

/* A record holds 16 KiB at most, so there may be several to write. */
static inline ssize_t tls_send(SSL *tls, int fd, const void *data, size_t length)
{
    size_t sent = 0;
    if (tls == NULL)
        return send(fd, data, length, MSG_NOSIGNAL);
    while (sent < length) {
        ssize_t written = tls_outcome(tls, SSL_write(tls, (const uint8_t *)data + sent, (int)(length - sent)));
        if (written <= 0)
            return sent ? (ssize_t)sent : -1;
        sent += (size_t)written;
    }
    return (ssize_t)sent;
}

/* 1 when the TLS handshake is done, -1 with errno as for the others. */
static inline ssize_t tls_handshake(SSL *tls)
{
    return tls_outcome(tls, SSL_do_handshake(tls));
}

static inline bool tls_has_more(const SSL *tls)
{
    return tls && SSL_has_pending(tls);
}

/* Our half ends: a close_notify, if the socket takes it. */
static inline void tls_end(SSL *tls)
{
    if (tls && SSL_is_init_finished(tls))
        SSL_shutdown(tls);
    ERR_clear_error();
}

static inline void tls_free(SSL *tls)
{
    SSL_free(tls);
}

#else

typedef struct ssl SSL;

__attribute__((noreturn))
static inline void tls_missing(void)
{
    die("built without TLS: the headers of OpenSSL were missing (on Debian: apt-get install libssl-dev)");
}

static inline void tls_use_as_client(void)
{
    tls_missing();
}

static inline void tls_use_as_server(const char *certificate, const char *key)
{
    (void)certificate, (void)key;
    tls_missing();
}

static inline SSL *tls_new(int fd, bool as_client)
{
    (void)fd, (void)as_client;
    return NULL;
}

static inline ssize_t tls_receive(SSL *tls, int fd, void *data, size_t length)
{
    (void)tls;
    return recv(fd, data, length, 0);
}

static inline ssize_t tls_send(SSL *tls, int fd, const void *data, size_t length)
{
    (void)tls;
    return send(fd, data, length, MSG_NOSIGNAL);
}

static inline ssize_t tls_handshake(SSL *tls)
{
    (void)tls;
    return 1;
}

static inline bool tls_has_more(const SSL *tls)
{
    (void)tls;
    return false;
}

static inline void tls_end(SSL *tls)
{
    (void)tls;
}

static inline void tls_free(SSL *tls)
{
    (void)tls;
}

#endif

#endif
