/* A request for a WebSocket as nearly all clients send it: taken apart, and checked. See `usual_head.h`. */
#ifndef LAPWING_USUAL_REQUEST_H
#define LAPWING_USUAL_REQUEST_H

#include "usual_head.h"

/* Take the head of a request apart that `data` begins with; false where it is no usual one, or not whole. */
static bool lapwing_take_request(const char *data, size_t size, size_t longest, size_t most, lapwing_head *head)
{
    static const char method[] = "GET /", version[] = " HTTP/1.1\r\n";
    const char *at = data, *end = data + size;
    if (size < sizeof method - 1 || memcmp(at, method, sizeof method - 1) != 0)
        return false;
    at = lapwing_skip(at + sizeof method - 1, end, LAPWING_IN_TARGET);
    if ((size_t)(end - at) < sizeof version - 1 || memcmp(at, version, sizeof version - 1) != 0)
        return false;
    at += sizeof version - 1;
    return lapwing_take_headers(data, at, end, longest, most, head);
}

/* Whether a host is a name or an IPv4 address, perhaps with a port. */
static bool lapwing_is_usual_host(lapwing_text host)
{
    const char *end = host.data + host.size, *colon = lapwing_skip(host.data, end, LAPWING_IN_HOST);
    if (colon == host.data || colon == end)
        return colon != host.data;
    size_t digits = (size_t)(end - colon) - 1;
    if (*colon != ':' || digits < 1 || digits > 5)
        return false;
    unsigned int port = 0;
    for (const char *at = colon + 1; at < end; at++) {
        if (*at < '0' || *at > '9')
            return false;
        port = port * 10 + (unsigned int)(*at - '0');
    }
    return port >= 1 && port <= 65535;
}

/* Whether a key is 16 bytes in base64, with no bit set that does not count. */
static bool lapwing_is_key(lapwing_text key)
{
    return key.size == 24 && lapwing_skip(key.data, key.data + 22, LAPWING_IN_BASE64) == key.data + 22
           && strchr("AQgw", key.data[21]) != NULL && key.data[22] == '=' && key.data[23] == '=';
}

/* Whether a usual request asks for a WebSocket (RFC 6455 section 4.2.1). */
static bool lapwing_asks_for_websocket(const lapwing_head *head)
{
    const lapwing_text *headers = head->headers;
    lapwing_text version = headers[LAPWING_VERSION];
    return lapwing_upgrades(headers[LAPWING_CONNECTION]) && headers[LAPWING_HOST].data != NULL
           && lapwing_is_usual_host(headers[LAPWING_HOST]) && lapwing_is_websocket(headers[LAPWING_UPGRADE])
           && version.size == 2 && version.data[0] == '1' && version.data[1] == '3'
           && lapwing_is_key(headers[LAPWING_KEY]);
}

/* Whether an origin is of the very host that is asked for, by http or https. */
static bool lapwing_is_own_origin(lapwing_text origin, lapwing_text host)
{
    static const char http[] = "http://", https[] = "https://";
    size_t skipped = sizeof http - 1;
    if (origin.size > sizeof https - 1 && memcmp(origin.data, https, sizeof https - 1) == 0)
        skipped = sizeof https - 1;
    else if (origin.size <= skipped || memcmp(origin.data, http, skipped) != 0)
        return false;
    return lapwing_equals((lapwing_text){origin.data + skipped, origin.size - skipped}, host.data, host.size);
}

/* Whether a host is one of the usual names of the own machine. */
static bool lapwing_is_loopback(lapwing_text host)
{
    const char *colon = memchr(host.data, ':', host.size);
    if (colon)
        host.size = (size_t)(colon - host.data);
    return lapwing_equals(host, "localhost", 9) || lapwing_equals(host, "127.0.0.1", 9);
}

#endif
