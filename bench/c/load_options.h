/* What the load generator is asked to do. */
#ifndef BENCH_LOAD_OPTIONS_H
#define BENCH_LOAD_OPTIONS_H

#include <getopt.h>
#include <stdbool.h>

#include "common.h"
#include "frame.h"

#define MAX_OPENING 64 /* handshakes at a time: fewer than the usual backlog of 100 */

enum mode { ECHO, IDLE, CONNECT, CROWD, BROADCAST };

static struct {
    enum mode mode;
    uint64_t port, connections, outstanding, size, count, pid;
    uint64_t duration, warm_up; /* nanoseconds */
    uint8_t opcode;
    bool tls, deflate;
    const char *path, *protocol;
} chosen = {.connections = 64, .outstanding = 1, .size = 256, .duration = 2 * NS_PER_S, .warm_up = NS_PER_S / 2,
            .opcode = BINARY, .path = "/"};

static const char *const mode_names[] = {[ECHO] = "echo", [IDLE] = "idle", [CONNECT] = "connect",
                                         [CROWD] = "crowd", [BROADCAST] = "broadcast"};

static enum mode mode_option(const char *name)
{
    for (size_t i = 0; i < sizeof mode_names / sizeof mode_names[0]; i++)
        if (strcmp(name, mode_names[i]) == 0)
            return (enum mode)i;
    die("--mode takes echo, idle, connect, crowd or broadcast, not '%s'", name);
}

static void read_options(int argc, char **argv)
{
    static const struct option options[] = {
        {"mode", required_argument, NULL, 'm'}, {"port", required_argument, NULL, 'p'},
        {"connections", required_argument, NULL, 'c'}, {"outstanding", required_argument, NULL, 'o'},
        {"size", required_argument, NULL, 's'}, {"text", no_argument, NULL, 't'},
        {"binary", no_argument, NULL, 'b'}, {"seconds", required_argument, NULL, 'd'},
        {"count", required_argument, NULL, 'n'}, {"warm-up", required_argument, NULL, 'w'},
        {"pid", required_argument, NULL, 'i'}, {"path", required_argument, NULL, 'u'},
        {"protocol", required_argument, NULL, 'r'}, {"tls", no_argument, NULL, 'l'},
        {"deflate", no_argument, NULL, 'z'}, {0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'm': chosen.mode = mode_option(optarg); break;
        case 'p': chosen.port = number_option("port", optarg, 1, UINT16_MAX); break;
        case 'c': chosen.connections = number_option("connections", optarg, 1, 9000); break;
        case 'o': chosen.outstanding = number_option("outstanding", optarg, 1, 4096); break;
        case 's': chosen.size = number_option("size", optarg, 0, 16 << 20); break;
        case 't': chosen.opcode = TEXT; break;
        case 'b': chosen.opcode = BINARY; break;
        case 'd': chosen.duration = seconds_option("seconds", optarg); break;
        case 'n': chosen.count = number_option("count", optarg, 1, UINT64_MAX / 2); break;
        case 'w': chosen.warm_up = seconds_option("warm-up", optarg); break;
        case 'i': chosen.pid = number_option("pid", optarg, 1, INT32_MAX); break;
        case 'u': chosen.path = optarg; break;
        case 'r': chosen.protocol = optarg; break;
        case 'l': chosen.tls = true; break;
        case 'z': chosen.deflate = true; break;
        default:
            die("usage: load --port PORT [--mode echo|idle|connect|crowd|broadcast] [--connections N] [--outstanding N] "
                "[--size BYTES] [--text|--binary] [--seconds S | --count N] [--warm-up S] [--pid SERVER] [--path /] "
                "[--protocol NAME] [--tls] [--deflate]");
        }
    }
    if (chosen.port == 0 || optind != argc)
        die("--port is needed, and nothing besides options");
    if (chosen.mode == CONNECT && chosen.connections > MAX_OPENING)
        die("--mode connect takes at most %d connections at a time", MAX_OPENING);
    if (chosen.mode == CROWD && chosen.pid == 0)
        die("--mode crowd waits for the server to rest: --pid says which process it is");
    if (chosen.mode == BROADCAST && chosen.outstanding != 1)
        die("--mode broadcast has one message outstanding, for all connections");
    if (chosen.deflate && chosen.size > UINT16_MAX)
        die("--deflate takes a size of at most %d: one stored block", UINT16_MAX);
}

#endif
