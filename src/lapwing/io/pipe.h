/* What stands between a TLS session of OpenSSL and a socket: see `openssl.h`, which is for `tls` alone. */
#ifndef LAPWING_PIPE_H
#define LAPWING_PIPE_H

#include "buffer.h"

typedef struct ssl_st SSL;
typedef struct bio_st BIO;
typedef struct bio_method_st BIO_METHOD;

/* What the BIO of a session reads from and writes to. Input is looked for in what is held first, then in what was
 * lent. */
typedef struct {
    lapwing_buffer held;       /* ciphertext that came and was not used yet */
    const unsigned char *lent; /* ciphertext of the caller's, for the duration of a call */
    size_t lent_size;
    lapwing_buffer output; /* ciphertext for the network */
} lapwing_pipe;

#endif
