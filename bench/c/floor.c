/*
 * The floor: a WebSocket echo server that does the least a correct one must, as the measure for all others.
 *
 * For every readable event: one receive call, the frames unmasked and rewritten where they lie, all answers in one send
 * call. Data frames are answered frame by frame with their own fin and opcode, which echoes fragmented messages
 * fragmented; text is checked for UTF-8. A frame of up to MAX_PAYLOAD is received straight into a buffer of its size.
 *
 * With --broadcast every message goes to all connections instead: framed once, one send call for each.
 */
#define _GNU_SOURCE

#include <getopt.h>
#include <stdbool.h>

#include "frame.h"

struct session {
    bool in_message; /* a fragmented message has begun */
    bool is_text;    /* its opcode */
    struct connection *next, *previous; /* of all open ones, in a circle */
    struct utf8 utf8;
};

#include "server.h"

#define MAX_PAYLOAD (16 * 1024 * 1024)

/* Close codes of RFC 6455 section 7.4.1. */
enum { PROTOCOL_ERROR = 1002, INVALID_PAYLOAD = 1007, TOO_BIG = 1009 };

static bool broadcasting;
static struct connection *first_open;

/* Fails the connection: a Close frame, and nothing more is read. */
static size_t fail(struct connection *connection, uint8_t *at, uint16_t code)
{
    connection->state = DRAINING;
    frame_encode(at, FIN | CLOSE, 2);
    at[2] = (uint8_t)(code >> 8);
    at[3] = (uint8_t)code;
    return 4;
}

static uint16_t check_head(const struct connection *connection, const struct frame *frame)
{
    bool in_message = connection->session.in_message;
    if (frame_violation(frame, true))
        return PROTOCOL_ERROR;
    if (!is_control(frame->opcode) && (frame->opcode == CONTINUATION) != in_message)
        return PROTOCOL_ERROR;
    return frame->payload_length > MAX_PAYLOAD ? TOO_BIG : 0;
}

/* RFC 6455 section 7.4.2: which codes may come in a Close frame. */
static uint16_t check_close(const uint8_t *payload, size_t length)
{
    struct utf8 utf8 = {0};
    if (length == 0)
        return 0;
    unsigned code = length < 2 ? 0 : (unsigned)big_endian(payload, 2);
    bool defined = (code >= 1000 && code <= 1014 && (code < 1004 || code > 1006)) || (code >= 3000 && code <= 4999);
    if (!defined)
        return PROTOCOL_ERROR;
    return utf8_feed(&utf8, payload + 2, length - 2) && utf8.needed == 0 ? 0 : INVALID_PAYLOAD;
}

static uint16_t check_data(struct session *session, const struct frame *frame, const uint8_t *payload)
{
    if (frame->opcode != CONTINUATION)
        session->is_text = frame->opcode == TEXT;
    session->in_message = !frame->fin;
    if (!session->is_text)
        return 0;
    bool valid = utf8_feed(&session->utf8, payload, frame->payload_length);
    return valid && !(frame->fin && session->utf8.needed) ? 0 : INVALID_PAYLOAD;
}

/* Writes the answer to a whole frame at `at`, which lies at or below where its own payload does; returns its size. */
static size_t answer(struct connection *connection, const struct frame *frame, const uint8_t *masked, uint8_t *at)
{
    static const uint8_t replies[16] = {[TEXT] = TEXT, [BINARY] = BINARY, [CLOSE] = CLOSE, [PING] = PONG};
    size_t length = frame->payload_length;
    uint8_t *payload = at + head_size(length);
    if (frame->opcode == PONG)
        return 0;

    frame_mask(payload, masked, length, frame->masking_key);
    uint16_t code = is_control(frame->opcode) ? frame->opcode == CLOSE ? check_close(payload, length) : 0
                                              : check_data(&connection->session, frame, payload);
    if (code)
        return fail(connection, at, code);
    if (frame->opcode == CLOSE)
        connection->state = DRAINING;
    return frame_encode(at, (uint8_t)((frame->fin ? FIN : 0) | replies[frame->opcode]), length) + length;
}

/* Sends an answer to all others. It must be gone from the sockets that are behind before the next one comes. */
static void send_to_others(struct connection *from, const uint8_t *data, size_t length)
{
    for (struct connection *to = from->session.next; to != from; to = to->session.next) {
        ssize_t sent = to->output.length ? 0 : send_some(to, data, length);
        if (sent == 0)
            die("a reader is more than its socket's buffer behind");
        if (sent > 0 && (size_t)sent < length)
            keep_output(to, data + sent, length - (size_t)sent, &(struct buffer){0});
    } /* a lost connection is noticed when it is read */
}

/*
 * An answer is shorter than its frame by the masking key. The first answer begins so that its payload stays in place, the
 * others follow it without a gap: one run of bytes for one send call, made within the input.
 */
static struct outcome on_input(struct connection *connection, uint8_t *data, size_t length)
{
    uint8_t *first = data + MASKING_KEY_LENGTH, *end = first;
    struct outcome outcome = {.answer = first, .needed = MAX_HEAD};
    struct frame frame;
    while (connection->state == OPEN && frame_decode(data + outcome.used, length - outcome.used, &frame)) {
        uint16_t code = check_head(connection, &frame);
        if (code) {
            end += fail(connection, end, code);
            break;
        }
        size_t size = frame.head_length + frame.payload_length;
        if (length - outcome.used < size) {
            outcome.needed = size;
            break;
        }
        size_t written = answer(connection, &frame, data + outcome.used + frame.head_length, end);
        if (broadcasting && written && !is_control(frame.opcode))
            send_to_others(connection, end, written);
        end += written;
        outcome.used += size;
    }
    if (connection->state == DRAINING)
        outcome.used = length;
    outcome.answer_length = (size_t)(end - first);
    return outcome;
}

/* An echo server says nothing of its own accord. */
static void on_open(struct connection *connection)
{
    struct session *session = &connection->session;
    if (first_open == NULL) {
        first_open = session->next = session->previous = connection;
    } else {
        session->next = first_open;
        session->previous = first_open->session.previous;
        session->previous->session.next = session->next->session.previous = connection;
    }
}

static void before_drop(struct connection *connection)
{
    struct session *session = &connection->session;
    if (session->next == NULL)
        return;
    session->next->session.previous = session->previous;
    session->previous->session.next = session->next;
    if (first_open == connection)
        first_open = session->next == connection ? NULL : session->next;
}

static void on_writable(struct connection *connection)
{
    (void)connection;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'}, {"broadcast", no_argument, NULL, 'b'},
        {"certificate", required_argument, NULL, 'c'}, {"key", required_argument, NULL, 'k'}, {0},
    };
    const char *certificate = NULL, *key = NULL;
    uint64_t port = 0;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'p': port = number_option("port", optarg, 0, UINT16_MAX); break;
        case 'b': broadcasting = true; break;
        case 'c': certificate = optarg; break;
        case 'k': key = optarg; break;
        default: die("usage: floor [--port PORT] [--broadcast] [--certificate FILE --key FILE]");
        }
    }
    if ((certificate == NULL) != (key == NULL))
        die("--certificate and --key go together");
    if (certificate)
        tls_use_as_server(certificate, key);
    serve((uint16_t)port);
}
