/*
 * The load generator: many WebSocket clients in one thread, on non-blocking sockets and one epoll set.
 *
 *   --mode echo     keep so many messages outstanding on every connection, expect each of them back
 *   --mode idle     open connections, have one message echoed on each, print "ready", close them in order when standard
 *                   input ends
 *   --mode connect  open a connection, close it in order, open the next
 *   --mode crowd    open all connections, close all of them in order when the server is at rest, and again
 *   --mode broadcast  send one message on the first connection, expect it on all of them, send the next
 *
 * What is measured lies between two moments after a warm-up: messages (or connections set up), the latency of each, and
 * the CPU time of the server process. The result is one JSON object on standard output. Whatever the protocol does not
 * allow, or this program does not expect, ends it with a message and a non-zero exit status.
 */
#define _GNU_SOURCE

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"
#include "frame.h"
#include "handshake.h"
#include "load_crowd.h"
#include "load_frames.h"
#include "load_handshake.h"
#include "load_options.h"
#include "load_state.h"
#include "load_window.h"
#include "tls.h"

#define RECEIVE_SIZE (256 * 1024)
#define MAX_HTTP_HEAD 4096
#define EVENTS_PER_WAIT 512

static struct connection *connections;
static int epoll_fd;
static uint8_t received[RECEIVE_SIZE];

static void start_connection(struct connection *connection);
static void start_closing(struct connection *connection);
static void next_broadcast(void);
static void count_opened(void);
static void secure(struct connection *connection);

/* ---- what is sent ---- */

static void watch(struct connection *connection, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (connection->watched == events)
        return;
    if (epoll_ctl(epoll_fd, connection->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, connection->fd, &event) < 0)
        die_errno("epoll_ctl");
    connection->watched = events;
}

static size_t send_some(const struct connection *connection, const uint8_t *data, size_t length)
{
    ssize_t sent = tls_send(connection->tls, connection->fd, data, length);
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        die_errno("send");
    return sent < 0 ? 0 : (size_t)sent;
}

/*
 * Sends until all is gone or the socket takes no more. Control frames go in between two messages; what OpenSSL could
 * not write has to be offered to it again before anything else.
 */
static void flush(struct connection *connection)
{
    while (connection->owed || connection->control_length) {
        size_t begun = connection->pattern_at % frame_length;
        bool waiting = connection->control_length && !connection->stuck, control = waiting && begun == 0;
        const uint8_t *data = control ? connection->control : pattern + connection->pattern_at;
        size_t length = control ? connection->control_length
                                : waiting ? frame_length - begun : connection->owed;
        size_t sent = send_some(connection, data, length);
        if (control) {
            connection->control_length -= sent;
            memmove(connection->control, connection->control + sent, connection->control_length);
        } else {
            connection->owed -= sent;
            connection->pattern_at = (connection->pattern_at + sent) % pattern_length;
        }
        connection->stuck = !control && connection->tls && sent < length;
        if (sent < length) {
            watch(connection, EPOLLIN | EPOLLOUT);
            return;
        }
    }
    watch(connection, EPOLLIN);
}

static void queue_messages(struct connection *connection, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        connection->sent_at[(connection->oldest + connection->in_flight) % chosen.outstanding] = run.now;
        connection->in_flight++;
    }
    connection->owed += count * frame_length;
}

static void queue_control(struct connection *connection, uint8_t opcode, const uint8_t *data, size_t length)
{
    if (connection->control_length + 2 + MASKING_KEY_LENGTH + length > CONTROL_ROOM)
        die("the server sends pings faster than it reads the answers");
    connection->control_length += write_masked(connection->control + connection->control_length, opcode, data, length);
}

static void start_closing(struct connection *connection)
{
    static const uint8_t normal_closure[] = {1000 >> 8, 1000 & 0xFF};
    connection->state = CLOSING;
    queue_control(connection, CLOSE, normal_closure, sizeof normal_closure);
    flush(connection);
}

/* ---- what comes back ---- */

static void count_done(uint64_t latency)
{
    run.done++;
    if (run.phase == MEASURING || crowd.counts)
        histogram_add(&latencies, latency);
}

static void take_message(struct connection *connection)
{
    if (connection->in_flight == 0)
        die("a message came back that was not sent");
    count_done(run.now - connection->sent_at[connection->oldest]);
    connection->oldest = (connection->oldest + 1) % chosen.outstanding;
    connection->in_flight--;
    connection->seen_echo = true;
    if (chosen.mode == BROADCAST)
        run.unread--;
}

static void take_control(struct connection *connection)
{
    const struct frame *frame = &connection->frame;
    if (frame->opcode == PING && connection->state == OPEN) {
        queue_control(connection, PONG, connection->payload, frame->payload_length);
        flush(connection);
    } else if (frame->opcode == CLOSE) {
        unsigned code = frame->payload_length < 2 ? 1005 : (unsigned)big_endian(connection->payload, 2);
        if (connection->state != CLOSING || code != 1000)
            die("the server closed with code %u%s", code, connection->state == CLOSING ? " after our 1000" : "");
        connection->seen_close = true;
    }
}

static void check_head(const struct connection *connection)
{
    const struct frame *frame = &connection->frame;
    struct frame plain = *frame;
    bool compressed = chosen.deflate && frame->rsv == RSV1 && !is_control(frame->opcode);
    if (compressed)
        plain.rsv = 0;
    const char *violation = frame_violation(&plain, false);
    if (violation)
        die("from the server: %s", violation);
    if (connection->seen_close)
        die("a frame came after the Close frame");
    if (is_control(frame->opcode))
        return;
    bool expected_length = compressed || frame->payload_length == chosen.size;
    if (frame->opcode != chosen.opcode || !frame->fin || !expected_length)
        die("expected an echo of opcode %d and %llu bytes, got opcode %d, fin %d, %llu bytes", chosen.opcode,
            (unsigned long long)chosen.size, frame->opcode, frame->fin, (unsigned long long)frame->payload_length);
}

/* Takes bytes of a frame's head; returns how many it used. */
static size_t take_head(struct connection *connection, const uint8_t *data, size_t length)
{
    size_t used = 0;
    bool whole = connection->head_length == 0 && frame_decode(data, length, &connection->frame);
    if (whole)
        used = connection->frame.head_length;
    while (!whole && used < length) {
        connection->head[connection->head_length++] = data[used++];
        whole = frame_decode(connection->head, connection->head_length, &connection->frame);
    }
    if (whole) {
        check_head(connection);
        connection->in_payload = true;
        connection->payload_at = 0;
        connection->head_length = 0;
    }
    return used;
}

/* Takes bytes of a frame's payload; returns how many it used. The first echo is compared in full, the rest by head. */
static size_t take_payload(struct connection *connection, const uint8_t *data, size_t length)
{
    const struct frame *frame = &connection->frame;
    uint64_t left = frame->payload_length - connection->payload_at;
    size_t used = length < left ? length : left;
    if (is_control(frame->opcode))
        memcpy(connection->payload + connection->payload_at, data, used);
    else if (!connection->seen_echo && !chosen.deflate && memcmp(payload + connection->payload_at, data, used) != 0)
        die("the echo differs from what was sent");
    connection->payload_at += used;
    if (used == left) {
        connection->in_payload = false;
        if (is_control(frame->opcode))
            take_control(connection);
        else
            take_message(connection);
    }
    return used;
}

static void take_frames(struct connection *connection, const uint8_t *data, size_t length)
{
    size_t before = connection->in_flight;
    for (size_t at = 0; at < length || (connection->in_payload && connection->frame.payload_length == 0);)
        at += connection->in_payload ? take_payload(connection, data + at, length - at)
                                     : take_head(connection, data + at, length - at);
    size_t echoed = before - connection->in_flight;
    if (connection->state != OPEN || echoed == 0)
        return;
    if (chosen.mode == BROADCAST) {
        if (run.unread == 0)
            next_broadcast();
    } else if (chosen.mode == IDLE) {
        count_opened();
    } else if (run.phase != ENDING) {
        queue_messages(connection, echoed);
        flush(connection);
    } else if (connection->in_flight == 0) {
        start_closing(connection);
    }
}

/* ---- broadcasts ---- */

/* One message from the first connection to all of them. */
static void broadcast(void)
{
    for (uint64_t i = 0; i < chosen.connections; i++) {
        connections[i].sent_at[0] = run.now;
        connections[i].oldest = 0;
        connections[i].in_flight = 1;
    }
    run.unread = chosen.connections;
    connections[0].owed += frame_length;
    flush(&connections[0]);
}

static void next_broadcast(void)
{
    if (run.phase != ENDING) {
        broadcast();
        return;
    }
    for (uint64_t i = 0; i < chosen.connections; i++)
        start_closing(&connections[i]);
}

/* ---- the opening handshake ---- */

static void open_more(void)
{
    while (run.opening < MAX_OPENING && run.opened + run.opening < chosen.connections)
        start_connection(&connections[run.opened + run.opening]);
}

static void count_opened(void)
{
    run.opening--;
    run.opened++;
    open_more();
}

static void become_open(struct connection *connection)
{
    free(connection->response);
    connection->response = NULL;
    connection->state = OPEN;
    if (chosen.mode == CONNECT) {
        run.opening--;
        count_done(run.now - connection->began);
        start_closing(connection);
    } else if (chosen.mode == IDLE) {
        queue_messages(connection, 1);
        flush(connection);
    } else {
        if (chosen.mode == CROWD)
            count_done(run.now - connection->began);
        count_opened();
    }
}

static void take_response(struct connection *connection, const uint8_t *data, size_t length)
{
    if (connection->response_length + length >= MAX_HTTP_HEAD)
        die("the response head has more than %d bytes", MAX_HTTP_HEAD);
    memcpy(connection->response + connection->response_length, data, length);
    connection->response_length += length;
    size_t head = head_length(connection->response, connection->response_length);
    if (head == 0)
        return;
    check_response(connection->key, connection->response, head);
    if (head != connection->response_length)
        die("the server spoke first: %zu bytes behind its response head", connection->response_length - head);
    become_open(connection);
}

static void start_connection(struct connection *connection)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)chosen.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    uint64_t *ring = connection->sent_at;
    *connection = (struct connection){.state = CONNECTING, .began = now_ns(), .sent_at = ring};
    connection->response = allocate(MAX_HTTP_HEAD, 1);
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        die_errno("socket");
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (connect(connection->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        die_errno("connect");
    run.opening++;
    run.active++;
    watch(connection, EPOLLOUT);
}

static void finish_connecting(struct connection *connection)
{
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 || error)
        die("connect to port %d: %s", (int)chosen.port, strerror(error));
    connection->tls = tls_new(connection->fd, true);
    connection->state = SECURING;
    watch(connection, EPOLLIN);
    secure(connection);
}

/* Goes on with the TLS handshake, if there is one; then sends the request. */
static void secure(struct connection *connection)
{
    if (connection->tls) {
        run.now = run.last_progress = now_ns();
        if (tls_handshake(connection->tls) <= 0) {
            if (errno != EAGAIN)
                die("the TLS handshake failed");
            return;
        }
    }
    connection->state = OPENING;
    char request[MAX_REQUEST];
    size_t size = write_request(request, connection->key);
    if (send_some(connection, (const uint8_t *)request, size) != size)
        die("a fresh socket did not take %zu bytes", size);
}

static void take_end(struct connection *connection)
{
    if (connection->state != CLOSING || !connection->seen_close)
        die("the server ended a connection without a Close frame");
    tls_free(connection->tls);
    connection->tls = NULL;
    close(connection->fd);
    connection->state = UNUSED;
    run.active--;
    if (chosen.mode == CONNECT && run.phase != ENDING)
        start_connection(connection);
}

/* Receives once; tells whether there is more to receive for which no event will come. */
static bool read_once(struct connection *connection)
{
    ssize_t count = tls_receive(connection->tls, connection->fd, received, sizeof received);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (count < 0 && !connection->seen_close)
        die_errno("recv");
    run.now = run.last_progress = now_ns();
    if (count <= 0)
        take_end(connection);
    else if (connection->state == OPENING)
        take_response(connection, received, (size_t)count);
    else
        take_frames(connection, received, (size_t)count);
    return tls_has_more(connection->tls);
}

static void readable(struct connection *connection)
{
    while (read_once(connection))
        ;
}

static void dispatch(struct connection *connection, uint32_t events)
{
    if (connection->state == CONNECTING) {
        finish_connecting(connection);
        return;
    }
    if (connection->state == SECURING)
        secure(connection);
    if (connection->state == SECURING)
        return;
    if (events & EPOLLOUT)
        flush(connection);
    if (events & ~(uint32_t)EPOLLOUT)
        readable(connection);
}

/* ---- the measured window ---- */

static void enter(enum phase phase, uint64_t lasts)
{
    run.phase = phase;
    run.phase_ends = lasts == UINT64_MAX ? UINT64_MAX : run.now + lasts;
    run.last_progress = run.now;
}

static void begin_warm_up(void)
{
    enter(WARMING, chosen.warm_up);
    for (uint64_t i = 0; i < chosen.connections && chosen.mode == ECHO; i++) {
        queue_messages(&connections[i], chosen.outstanding);
        flush(&connections[i]);
    }
    if (chosen.mode == BROADCAST)
        broadcast();
}

static void begin_ending(void)
{
    enter(ENDING, UINT64_MAX);
    if (chosen.mode == BROADCAST)
        return; /* the message under way reaches all of them first */
    for (uint64_t i = 0; i < chosen.connections; i++)
        if (connections[i].state == OPEN && connections[i].in_flight == 0)
            start_closing(&connections[i]);
}

static void begin_holding(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    enter(HOLDING, UINT64_MAX);
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &event) < 0)
        die("--mode idle waits for the end of standard input, which must be a pipe or a terminal");
    puts("ready");
    fflush(stdout);
}

static void read_standard_input(void)
{
    char ignored[256];
    if (read(STDIN_FILENO, ignored, sizeof ignored) != 0)
        return;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_DEL, STDIN_FILENO, NULL) < 0)
        die_errno("epoll_ctl");
    begin_ending();
}

static void begin_crowd(void)
{
    run.opened = 0;
    enter(STARTING, UINT64_MAX);
    open_more();
}

/* The first crowd is the warm-up. The others follow until there were enough. */
static void advance_crowd(void)
{
    if (run.phase == STARTING && run.opened == chosen.connections) {
        enter(OPENED, UINT64_MAX);
        begin_rest(run.now);
    } else if (run.phase == OPENED && server_rests(run.now)) {
        count_half(&crowd.opening, run.done);
        enter(PARTING, UINT64_MAX);
        for (uint64_t i = 0; i < chosen.connections; i++)
            start_closing(&connections[i]);
    } else if (run.phase == PARTING && run.active == 0) {
        enter(PARTED, UINT64_MAX);
        begin_rest(run.now);
    } else if (run.phase == PARTED && server_rests(run.now)) {
        count_half(&crowd.closing, run.done);
        if (crowds_suffice(run.now))
            enter(ENDING, UINT64_MAX);
        else
            begin_crowd();
    }
}

/* Tells whether since `before` each outstanding message came back so many times; without messages, whether as much was done. */
static bool came_back(uint64_t before, uint64_t times)
{
    bool messages = chosen.mode == ECHO || chosen.mode == BROADCAST;
    return run.done - before >= times * (messages ? chosen.connections * chosen.outstanding : 1);
}

/*
 * A server may read from all connections before it answers the first. A window holds several such turns however short it
 * is and however slow the server, so that its figure does not depend on where within a turn it begins and ends.
 */
static bool window_is_over(void)
{
    if (chosen.count)
        return run.done - run.begin.done >= chosen.count;
    return run.now >= run.phase_ends && came_back(run.begin.done, LEAST_TURNS);
}

static bool is_warm(void)
{
    return run.now >= run.phase_ends && (chosen.count || came_back(0, WARM_UP_TURNS));
}

static void advance(void)
{
    if (chosen.mode == CROWD)
        advance_crowd();
    else if (run.phase == STARTING && chosen.mode == IDLE && run.opened == chosen.connections)
        begin_holding();
    else if (run.phase == STARTING && (chosen.mode == CONNECT || run.opened == chosen.connections))
        begin_warm_up();
    if (run.phase == WARMING && is_warm()) {
        enter(MEASURING, chosen.duration);
        run.begin = take_reading(run.done);
    }
    if (run.phase == MEASURING && window_is_over()) {
        run.end = take_reading(run.done);
        begin_ending();
    }
    bool waits = run.phase == HOLDING || run.phase == OPENED || run.phase == PARTED;
    if (!waits && run.now - run.last_progress > STALL)
        die("nothing came from the server for %llu s; %llu of %llu connections are open", STALL / NS_PER_S,
            (unsigned long long)run.active, (unsigned long long)chosen.connections);
}

static void run_all(void)
{
    struct epoll_event events[EVENTS_PER_WAIT];
    run.now = run.last_progress = now_ns();
    if (chosen.mode == CROWD)
        crowd.mark = take_reading(0);
    open_more();
    do {
        int count = epoll_wait(epoll_fd, events, EVENTS_PER_WAIT, 10);
        if (count < 0 && errno != EINTR)
            die_errno("epoll_wait");
        run.now = now_ns();
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                dispatch(events[i].data.ptr, events[i].events);
            else
                read_standard_input();
        }
        advance();
    } while (run.phase != ENDING || run.active);
}

/* ---- the report ---- */

static void report(void)
{
    printf("{\"mode\": \"%s\", \"connections\": %llu", mode_names[chosen.mode],
           (unsigned long long)chosen.connections);
    if (chosen.mode == ECHO || chosen.mode == BROADCAST)
        printf(", \"outstanding\": %llu, \"size\": %llu, \"opcode\": \"%s\"", (unsigned long long)chosen.outstanding,
               (unsigned long long)chosen.size, chosen.opcode == TEXT ? "text" : "binary");
    if (chosen.mode != IDLE) {
        if (chosen.mode == CROWD)
            report_crowd();
        else
            report_window(&run.begin, &run.end);
        printf(", \"all_done\": %llu", (unsigned long long)run.done);
        report_latencies();
    }
    puts("}");
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    raise_descriptor_limit();
    if (chosen.pid)
        find_server_clock();
    if (chosen.tls)
        tls_use_as_client();
    prepare_frames();
    connections = allocate(chosen.connections, sizeof *connections);
    for (uint64_t i = 0; i < chosen.connections; i++)
        connections[i].sent_at = allocate(chosen.outstanding, sizeof(uint64_t));
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        die_errno("epoll_create1");
    run_all();
    report();
}
