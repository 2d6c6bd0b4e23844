/* The state of the load generator: each of its connections, and how far the run is. */
#ifndef BENCH_LOAD_STATE_H
#define BENCH_LOAD_STATE_H

#include <stdbool.h>

#include "common.h"
#include "frame.h"
#include "handshake.h"
#include "load_window.h"
#include "tls.h"

#define CONTROL_ROOM 512
#define STALL (10 * NS_PER_S) /* without a byte from the server, or without its rest */

enum state { UNUSED, CONNECTING, SECURING, OPENING, OPEN, CLOSING };

struct connection {
    int fd;
    enum state state;
    uint32_t watched;
    SSL *tls;                    /* NULL for plain TCP */
    bool stuck;                  /* OpenSSL holds a record of messages that the socket has not taken */
    uint64_t began;              /* when it started to connect */
    char key[KEY_LENGTH];
    char *response;              /* the head of the response so far, while OPENING */
    size_t response_length;

    struct frame frame;          /* the one being received */
    uint8_t head[MAX_HEAD];
    size_t head_length;          /* bytes of an incomplete head */
    uint64_t payload_at;         /* bytes of its payload that have come */
    uint8_t payload[MAX_CONTROL_PAYLOAD]; /* of a control frame */
    bool in_payload, seen_echo, seen_close;

    size_t owed, pattern_at;     /* bytes of ready frames to send, and from where */
    uint8_t control[CONTROL_ROOM]; /* control frames to send between two others */
    size_t control_length;
    uint64_t *sent_at;           /* a ring: when each outstanding message left */
    size_t oldest, in_flight;
};

enum phase {
    STARTING,
    WARMING,
    MEASURING,
    HOLDING,
    OPENED, /* a crowd is open, and the server comes to rest */
    PARTING, /* the crowd is closed in order */
    PARTED, /* all are closed, and the server comes to rest */
    ENDING
};

static struct {
    enum phase phase;
    uint64_t phase_ends;
    uint64_t now;          /* of the event in hand */
    uint64_t last_progress;
    uint64_t opening, opened, active;
    uint64_t unread;       /* connections that the message of a broadcast has not reached */
    uint64_t done;         /* messages echoed, or connections set up */
    struct reading begin, end;
} run;

#endif
