/*
 * A feed: after the opening handshake every client is sent a fixed number of equal messages, as fast as it reads, and
 * then a Close frame. It measures what receiving costs a client.
 *
 * The messages leave from one buffer of ready frames, so the server spends little but the kernel's time on them. A feed
 * takes no messages: of a client's frames only Close and Pong are expected, and it runs for less time than any usual
 * keepalive interval.
 */
#define _GNU_SOURCE

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct session {
    uint64_t left; /* bytes of frames still to send */
    size_t at;     /* where the next ones stand among the ready frames */
};

#include "server.h"

#define READY_SIZE (64 * 1024) /* of ready frames, at least one: what one send call offers */

static struct {
    uint64_t port, size, count;
    uint8_t opcode;
} chosen = {.size = 256, .count = 1000000, .opcode = BINARY};

static uint8_t *ready;
static size_t ready_length, frame_length;

static void prepare_frames(void)
{
    uint8_t head[MAX_HEAD];
    size_t head_length = frame_encode(head, FIN | chosen.opcode, chosen.size);
    frame_length = head_length + chosen.size;
    size_t frames = frame_length < READY_SIZE ? READY_SIZE / frame_length : 1;
    ready_length = frames * frame_length;
    ready = allocate(ready_length, 1);
    for (size_t at = 0; at < ready_length; at += frame_length) {
        memcpy(ready + at, head, head_length);
        for (size_t i = 0; i < chosen.size; i++)
            ready[at + head_length + i] = (uint8_t)('a' + i % 26);
    }
}

static void on_open(struct connection *connection)
{
    connection->session.left = chosen.count * frame_length;
    watch(connection, EPOLLIN | EPOLLOUT);
}

static void before_drop(struct connection *connection)
{
    (void)connection;
}

/* One send call for each event, so that many clients are fed in turn. */
static void on_writable(struct connection *connection)
{
    static const uint8_t close_frame[] = {FIN | CLOSE, 2, 1000 >> 8, 1000 & 0xFF};
    struct session *session = &connection->session;
    size_t here = ready_length - session->at;
    bool done = session->left == 0;
    const uint8_t *data = done ? close_frame : ready + session->at;
    size_t length = done ? sizeof close_frame : session->left < here ? session->left : here;

    ssize_t sent = send_some(connection, data, length);
    if (sent < 0) {
        drop(connection);
    } else if (!done) {
        session->left -= (uint64_t)sent;
        session->at = (session->at + (size_t)sent) % ready_length;
    } else if ((size_t)sent == length) {
        watch(connection, EPOLLIN);
    } else if (sent > 0) {
        die("a Close frame of %zu bytes was cut", length);
    }
}

/* Walks over the client's frames; its Close frame ends the connection. */
static struct outcome on_input(struct connection *connection, uint8_t *data, size_t length)
{
    struct outcome outcome = {.needed = MAX_HEAD + MAX_CONTROL_PAYLOAD};
    struct frame frame;
    while (connection->state == OPEN && frame_decode(data + outcome.used, length - outcome.used, &frame)) {
        const char *violation = frame_violation(&frame, true);
        if (violation)
            die("%s", violation);
        if (frame.opcode != CLOSE && frame.opcode != PONG)
            die("a feed takes no frame of opcode %d", frame.opcode);
        size_t size = frame.head_length + frame.payload_length;
        if (length - outcome.used < size)
            break;
        if (frame.opcode == CLOSE)
            connection->state = DRAINING;
        outcome.used += size;
    }
    if (connection->state == DRAINING) {
        watch(connection, EPOLLIN);
        outcome.used = length;
    }
    return outcome;
}

static void read_options(int argc, char **argv)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'}, {"size", required_argument, NULL, 's'},
        {"count", required_argument, NULL, 'n'}, {"text", no_argument, NULL, 't'}, {0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'p': chosen.port = number_option("port", optarg, 0, UINT16_MAX); break;
        case 's': chosen.size = number_option("size", optarg, 0, 16 << 20); break;
        case 'n': chosen.count = number_option("count", optarg, 0, 1ull << 32); break;
        case 't': chosen.opcode = TEXT; break;
        default: die("usage: feed [--port PORT] [--size BYTES] [--count MESSAGES] [--text]");
        }
    }
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    prepare_frames();
    serve((uint16_t)chosen.port);
}
