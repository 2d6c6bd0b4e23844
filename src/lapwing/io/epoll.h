/* The system calls of a readiness set with an alarm in it (Linux); elsewhere only what compiles. */
#ifndef LAPWING_EPOLL_H
#define LAPWING_EPOLL_H

#ifdef __linux__
#include <poll.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>
#define LAPWING_HAS_EPOLL 1

static int lapwing_make_alarm(void)
{
    return timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
}

/* Have the alarm become readable in so many seconds; at least a nanosecond, since 0 would take it back. */
static int lapwing_set_alarm(int alarm, double seconds)
{
    struct itimerspec when = {{0, 0}, {0, 0}};
    when.it_value.tv_sec = (time_t)seconds;
    when.it_value.tv_nsec = (long)((seconds - (double)when.it_value.tv_sec) * 1e9) + 1;
    if (when.it_value.tv_nsec >= 1000000000)
        when.it_value.tv_nsec = 999999999;
    return timerfd_settime(alarm, 0, &when, NULL);
}

static void lapwing_hear_alarm(int alarm)
{
    uint64_t count;
    ssize_t size = read(alarm, &count, sizeof count);
    (void)size;
}

/* Whether both directions of a connection have ended, or an error has. */
static int lapwing_has_ended(int fd)
{
    struct pollfd asked = {fd, 0, 0};
    return poll(&asked, 1, 0) > 0 && (asked.revents & (POLLERR | POLLHUP));
}
#else
/* Without epoll every loop gets the portable reactor; these only have to compile. */
#include <stdint.h>
#define LAPWING_HAS_EPOLL 0
#define EPOLLIN 1
#define EPOLLOUT 4
#define EPOLLERR 8
#define EPOLLHUP 16
#define EPOLL_CTL_ADD 1
#define EPOLL_CTL_DEL 2
#define EPOLL_CTL_MOD 3
#define EPOLL_CLOEXEC 0
typedef union {
    void *ptr;
} epoll_data_t;
struct epoll_event {
    uint32_t events;
    epoll_data_t data;
};
static int lapwing_make_alarm(void)
{
    return -1;
}
static int lapwing_set_alarm(int alarm, double seconds)
{
    return -1;
}
static void lapwing_hear_alarm(int alarm) {}
static int lapwing_has_ended(int fd)
{
    return 0;
}
static int epoll_create1(int flags)
{
    return -1;
}
static int epoll_ctl(int fd, int what, int target, struct epoll_event *event)
{
    return -1;
}
static int epoll_wait(int fd, struct epoll_event *events, int count, int timeout)
{
    return -1;
}
#endif

#endif
