/* The response that opens a WebSocket as nearly all servers send it: taken apart, and checked. See `usual_head.h`. */
#ifndef LAPWING_USUAL_RESPONSE_H
#define LAPWING_USUAL_RESPONSE_H

#include "usual_head.h"

/* Take the head of a response with the status 101 apart that `data` begins with; false where it is no usual one, or not
 * whole. */
static bool lapwing_take_response(const char *data, size_t size, size_t longest, size_t most, lapwing_head *head)
{
    static const char beginning[] = "HTTP/1.1 101 ";
    const char *at = data, *end = data + size;
    if (size < sizeof beginning - 1 || memcmp(at, beginning, sizeof beginning - 1) != 0)
        return false;
    at = lapwing_skip(at + sizeof beginning - 1, end, LAPWING_IN_VALUE);
    if (end - at < 2 || at[0] != '\r' || at[1] != '\n')
        return false;
    return lapwing_take_headers(data, at + 2, end, longest, most, head);
}

/* Whether a usual response switches to WebSocket, for the request that this answers (RFC 6455 section 4.1). */
static bool lapwing_answers(const lapwing_head *head, const char *accept, size_t size)
{
    const lapwing_text *headers = head->headers;
    return lapwing_is_websocket(headers[LAPWING_UPGRADE]) && lapwing_upgrades(headers[LAPWING_CONNECTION])
           && headers[LAPWING_ACCEPT].data != NULL && lapwing_equals(headers[LAPWING_ACCEPT], accept, size);
}

#endif
