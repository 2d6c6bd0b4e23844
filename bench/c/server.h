/*
 * One thread, one epoll set, any number of connections: what floor.c and feed.c have in common.
 *
 * The program defines `struct session` (its own state of a connection) before it includes this file, and the three
 * hooks declared below after it.
 *
 * Memory. Input is received into one buffer that all connections share. Only what is left of an incomplete frame moves
 * to the connection's `input`, and only what the socket would not take to its `output`: a connection between two small
 * messages owns no buffer. One that had a large message keeps its buffer, so that the next is received straight into
 * it. While output waits the connection is not read, so a peer that does not read holds no more
 * than the answer to one receive call.
 */
#ifndef BENCH_SERVER_H
#define BENCH_SERVER_H

#include <arpa/inet.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"
#include "frame.h"
#include "handshake.h"
#include "tls.h"

#define RECEIVE_SIZE (256 * 1024)
#define MAX_HTTP_HEAD (8 * 1024)
#define EVENTS_PER_WAIT 256
/* A Close frame may be written behind the last byte received: frame.h writes replies in place. */
#define SLACK 16

enum state {
    OPENING,  /* no opening handshake yet */
    OPEN,
    DRAINING  /* we have said our last; what comes is thrown away until the peer ends too (RFC 6455 section 7.1.1) */
};

struct buffer {
    uint8_t *data;
    size_t start; /* of what is still to go out; always 0 in an input */
    size_t length;
    size_t capacity;
};

struct connection {
    int fd;
    enum state state;
    uint32_t watched; /* the epoll events asked for */
    SSL *tls;         /* NULL for plain TCP */
    struct buffer input;
    struct buffer output;
    struct session session;
};

/* What became of some input: the bytes used up, the answer, and the length that the next frame needs in all. */
struct outcome {
    size_t used;
    const uint8_t *answer;
    size_t answer_length;
    size_t needed;
};

static void on_open(struct connection *connection);
/* Takes bytes after the handshake; may change them, and SLACK bytes behind them. */
static struct outcome on_input(struct connection *connection, uint8_t *data, size_t length);
/* The socket takes bytes, and `output` is empty. */
static void on_writable(struct connection *connection);
/* The connection's memory is about to be freed. */
static void before_drop(struct connection *connection);

static int epoll_fd;
static uint8_t received[RECEIVE_SIZE + SLACK];

static void watch(struct connection *connection, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (connection->watched == events)
        return;
    if (epoll_ctl(epoll_fd, connection->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, connection->fd, &event) < 0)
        die_errno("epoll_ctl");
    connection->watched = events;
}

static void drop(struct connection *connection)
{
    before_drop(connection);
    tls_free(connection->tls);
    close(connection->fd);
    free(connection->input.data);
    free(connection->output.data);
    free(connection);
}

static bool would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* Sends what the socket takes; -1 when the connection is lost. */
static ssize_t send_some(struct connection *connection, const uint8_t *data, size_t length)
{
    ssize_t sent = tls_send(connection->tls, connection->fd, data, length);
    return sent >= 0 ? sent : would_block() ? 0 : -1;
}

/* Ends our half once all output is gone; the peer's end then arrives as an ordinary event. */
static void end_output(struct connection *connection)
{
    if (connection->state != DRAINING)
        return;
    tls_end(connection->tls);
    shutdown(connection->fd, SHUT_WR);
}

/* Gives back the memory of a buffer that is done with, to the connection when it is a large one. */
static void recycle(struct connection *connection, struct buffer *done)
{
    if (done->capacity > RECEIVE_SIZE && connection->input.data == NULL)
        connection->input = (struct buffer){.data = done->data, .capacity = done->capacity};
    else
        free(done->data);
    *done = (struct buffer){0};
}

/* Keeps unsent bytes. An answer that lies in the connection's own input takes that memory along, uncopied. */
static void keep_output(struct connection *connection, const uint8_t *rest, size_t length, struct buffer *owner)
{
    struct buffer *output = &connection->output;
    if (owner->data && rest >= owner->data && rest < owner->data + owner->capacity) {
        *output = *owner;
        output->start = (size_t)(rest - owner->data);
        *owner = (struct buffer){0};
    } else {
        *output = (struct buffer){.data = allocate(length + SLACK, 1), .capacity = length};
        memcpy(output->data, rest, length);
    }
    output->length = length;
    watch(connection, EPOLLOUT);
}

static void keep_input(struct connection *connection, const uint8_t *rest, size_t length, size_t needed)
{
    struct buffer *input = &connection->input;
    size_t capacity = needed > RECEIVE_SIZE ? needed : RECEIVE_SIZE;
    *input = (struct buffer){.data = malloc(capacity + SLACK), .length = length, .capacity = capacity};
    if (input->data == NULL)
        die("out of memory (%zu bytes)", capacity);
    memcpy(input->data, rest, length);
}

/* Sends the answer and keeps what is left over of it and of the input; false when the connection is lost. */
static bool settle(struct connection *connection, uint8_t *data, size_t length, struct outcome outcome)
{
    struct buffer owner = connection->input;
    size_t rest = length - outcome.used;
    if (rest && outcome.used == 0 && data == owner.data && outcome.needed <= owner.capacity) {
        connection->input.length = length;
    } else {
        connection->input = (struct buffer){0};
        if (rest)
            keep_input(connection, data + outcome.used, rest, outcome.needed);
    }

    bool alive = true;
    if (outcome.answer_length) {
        ssize_t sent = send_some(connection, outcome.answer, outcome.answer_length);
        alive = sent >= 0;
        if (alive && (size_t)sent < outcome.answer_length)
            keep_output(connection, outcome.answer + sent, outcome.answer_length - (size_t)sent, &owner);
    }
    if (alive && connection->output.length == 0)
        end_output(connection);
    if (owner.data != connection->input.data)
        recycle(connection, &owner);
    return alive;
}

/* The response to a good request, or none. RFC 6455 section 4.2.1 names what a good one has. */
static int write_response(const char *head, size_t length, char *response, size_t room)
{
    struct text key = head_field(head, length, "Sec-WebSocket-Key");
    if (length < 4 || memcmp(head, "GET ", 4) != 0 || key.length != KEY_LENGTH
        || !text_equals(head_field(head, length, "Upgrade"), "websocket")
        || !has_token(head_field(head, length, "Connection"), "upgrade")
        || !text_equals(head_field(head, length, "Sec-WebSocket-Version"), "13"))
        return 0;

    char accept[ACCEPT_LENGTH];
    accept_key(key.data, accept);
    struct text protocol = first_token(head_field(head, length, "Sec-WebSocket-Protocol"));
    return snprintf(response, room,
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    "Sec-WebSocket-Accept: %.*s\r\n%s%.*s%s\r\n",
                    ACCEPT_LENGTH, accept, protocol.length ? "Sec-WebSocket-Protocol: " : "",
                    (int)protocol.length, protocol.length ? protocol.data : "", protocol.length ? "\r\n" : "");
}

static struct outcome open_connection(struct connection *connection, const uint8_t *data, size_t length)
{
    static const char refusal[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    static char response[MAX_HTTP_HEAD + 256]; /* the head bounds the subprotocol, the only part that varies */
    size_t head = head_length(data, length);
    if (head == 0 && length < MAX_HTTP_HEAD)
        return (struct outcome){.needed = MAX_HTTP_HEAD};

    int written = 0;
    /* A client must not send before it has our response (section 4.1): more than a head is refused. */
    if (head == length && length <= MAX_HTTP_HEAD)
        written = write_response((const char *)data, length, response, sizeof response);
    connection->state = written ? OPEN : DRAINING;
    return (struct outcome){
        .used = length,
        .answer = (const uint8_t *)(written ? response : refusal),
        .answer_length = written ? (size_t)written : sizeof refusal - 1,
    };
}

static struct outcome consume(struct connection *connection, uint8_t *data, size_t length)
{
    switch (connection->state) {
    case OPENING:
        return open_connection(connection, data, length);
    case OPEN:
        return on_input(connection, data, length);
    case DRAINING:
        break;
    }
    return (struct outcome){.used = length};
}

/* Receives once and answers; false when nothing is left to receive, or nobody to receive from. */
static bool read_once(struct connection *connection)
{
    struct buffer *input = &connection->input;
    uint8_t *data = input->data ? input->data : received;
    size_t capacity = input->data ? input->capacity : RECEIVE_SIZE;
    ssize_t count = tls_receive(connection->tls, connection->fd, data + input->length, capacity - input->length);
    if (count <= 0) {
        if (count == 0 || !would_block())
            drop(connection);
        return false;
    }
    enum state before = connection->state;
    size_t length = input->length + (size_t)count;
    if (!settle(connection, data, length, consume(connection, data, length))) {
        drop(connection);
        return false;
    }
    if (before == OPENING && connection->state == OPEN)
        on_open(connection);
    return connection->output.length == 0 && tls_has_more(connection->tls);
}

static void readable(struct connection *connection)
{
    while (read_once(connection))
        ;
}

static void writable(struct connection *connection)
{
    struct buffer *output = &connection->output;
    if (output->length == 0) {
        on_writable(connection);
        return;
    }
    ssize_t sent = send_some(connection, output->data + output->start, output->length);
    if (sent < 0) {
        drop(connection);
        return;
    }
    output->start += (size_t)sent;
    output->length -= (size_t)sent;
    if (output->length == 0) {
        recycle(connection, output);
        watch(connection, EPOLLIN);
        end_output(connection);
        if (tls_has_more(connection->tls))
            readable(connection);
    }
}

static void dispatch(struct connection *connection, uint32_t events)
{
    if (events & EPOLLOUT)
        writable(connection);
    else if (connection->output.length)
        drop(connection); /* an error: nothing else was asked for */
    else
        readable(connection);
}

static void accept_all(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *connection = allocate(1, sizeof *connection);
        connection->fd = fd;
        connection->tls = tls_new(fd, false);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        watch(connection, EPOLLIN);
    }
    if (!would_block() && errno != ECONNABORTED)
        die_errno("accept4");
}

/* Listens on 127.0.0.1 and prints the port on a line of its own. */
static int listen_on(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die_errno("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        die_errno("bind");
    if (listen(fd, SOMAXCONN) < 0)
        die_errno("listen");
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        die_errno("getsockname");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

__attribute__((noreturn))
static void serve(uint16_t port)
{
    struct epoll_event events[EVENTS_PER_WAIT];
    struct epoll_event listening = {.events = EPOLLIN, .data.ptr = NULL};
    /* Freed memory stays here: else every large message pays for the pages that the one before gave back. */
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    raise_descriptor_limit();

    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        die_errno("epoll_create1");
    int listener = listen_on(port);
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &listening) < 0)
        die_errno("epoll_ctl");
    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS_PER_WAIT, -1);
        if (count < 0 && errno != EINTR)
            die_errno("epoll_wait");
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            if (connection == NULL)
                accept_all(listener);
            else
                dispatch(connection, events[i].events);
        }
    }
}

#endif
