/* The client's side of the opening handshake: the request of the load generator, and its checks of the response. */
#ifndef BENCH_LOAD_HANDSHAKE_H
#define BENCH_LOAD_HANDSHAKE_H

#include "common.h"
#include "handshake.h"
#include "load_frames.h"
#include "load_options.h"

#define MAX_REQUEST 2048

/* A request head as a browser sends it, of some 600 bytes: what a server keeps of it counts in its memory. */
static size_t write_request(char request[MAX_REQUEST], char key[KEY_LENGTH])
{
    uint64_t nonce[2] = {next_random(), next_random()};
    base64_encode((const uint8_t *)nonce, sizeof nonce, key);
    int length = snprintf(request, MAX_REQUEST,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Upgrade\r\nPragma: no-cache\r\n"
        "Cache-Control: no-cache\r\n"
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 "
        "Safari/537.36\r\nUpgrade: websocket\r\nOrigin: %s://127.0.0.1:%d\r\nSec-WebSocket-Version: 13\r\n"
        "Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en-US;q=0.9,en;q=0.8\r\n"
        "Cookie: session=%016llx%016llx; theme=dark; _ga=GA1.1.1845297311.1731412345\r\n"
        "Sec-WebSocket-Key: %.*s\r\n%s%s%s%s\r\n",
        chosen.path, (int)chosen.port, chosen.tls ? "https" : "http", (int)chosen.port, (unsigned long long)nonce[1], (unsigned long long)nonce[0],
        KEY_LENGTH, key, chosen.protocol ? "Sec-WebSocket-Protocol: " : "",
        chosen.protocol ? chosen.protocol : "", chosen.protocol ? "\r\n" : "",
        chosen.deflate ? "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" : "");
    if (length >= MAX_REQUEST)
        die("the path and the subprotocol are too long");
    return (size_t)length;
}

/* RFC 6455 section 4.1, the client's checks of the response. */
static void check_response(const char key[KEY_LENGTH], const char *head, size_t length)
{
    static const char status[] = "HTTP/1.1 101 ";
    char accept[ACCEPT_LENGTH];
    accept_key(key, accept);
    struct text given = head_field(head, length, "Sec-WebSocket-Accept");
    struct text protocol = head_field(head, length, "Sec-WebSocket-Protocol");
    if (length < sizeof status || memcmp(head, status, sizeof status - 1) != 0)
        die("expected a response of status 101, got '%.*s'", (int)strcspn(head, "\r"), head);
    if (!text_equals(head_field(head, length, "Upgrade"), "websocket")
        || !has_token(head_field(head, length, "Connection"), "upgrade"))
        die("the response does not upgrade to websocket");
    if (given.length != ACCEPT_LENGTH || memcmp(given.data, accept, ACCEPT_LENGTH) != 0)
        die("the response has a wrong Sec-WebSocket-Accept");
    struct text extension = head_field(head, length, "Sec-WebSocket-Extensions");
    if (extension.data && !chosen.deflate)
        die("the response has an extension, and none was offered");
    static const char deflate[] = "permessage-deflate";
    if (chosen.deflate
        && (extension.length < sizeof deflate - 1 || memcmp(extension.data, deflate, sizeof deflate - 1) != 0))
        die("the server does not compress");
    if (chosen.protocol ? protocol.length != strlen(chosen.protocol)
                              || memcmp(protocol.data, chosen.protocol, protocol.length) != 0
                        : protocol.data != NULL)
        die("the response has the subprotocol '%.*s'", (int)protocol.length, protocol.data ? protocol.data : "");
}

#endif
