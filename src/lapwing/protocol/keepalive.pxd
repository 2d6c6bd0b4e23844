# Pings and their pongs, and how long the peer may be silent.

cimport cython

from ..native.instant cimport NEVER


cdef class Ping:
    cdef readonly bytes payload
    cdef readonly double sent_at
    cdef readonly object round_trip
    cdef bint is_awaited        # a call waits for its answer, and forgets it in the end


cdef enum Due:
    NOTHING_DUE
    PING_DUE        # nothing came for `ping_interval`
    PEER_SILENT     # nothing came for `ping_timeout` after a ping: the connection has failed


# In all of this `heard_at` is when the last input from the peer arrived.
@cython.final
cdef class Keepalive:
    # in seconds; each NEVER for none
    cdef double ping_interval
    cdef double ping_timeout
    cdef double counted_from        # silence counts from here, or from `heard_at` if that came later
    cdef double reply_due           # when the ping of `counted_from` has to be answered; NEVER for none
    # pings that wait for their pong, and those answered since the face last looked; None for none
    cdef list pings
    cdef list answered
    cdef double round_trip          # the last one in seconds, negative before the first
    cdef unsigned int ping_count

    # Watch the peer from `now` on.
    cpdef int begin(self, double ping_interval, double ping_timeout, double now) noexcept

    # When `find_due` has something to say.
    cpdef double deadline(self, double heard_at) noexcept

    # Whether `find_due` is going to say PEER_SILENT, unless input comes first.
    cdef inline bint is_overdue(self, double heard_at, double now, double stalled) noexcept:
        return heard_at < self.counted_from and now >= self.reply_due + stalled

    # Return the act that is due now. This end could not attend for `stalled` seconds, which count neither for nor
    # against the peer.
    cpdef Due find_due(self, double heard_at, double now, double stalled) noexcept

    # Leave out so many seconds in which this end did not read: they count neither for nor against the peer.
    cpdef int excuse(self, double seconds) noexcept

    # Learn that a ping was due and went out, unless it had no place behind much output. Returns whether there is a
    # time by which the peer has to answer; not if its answer would wait unread.
    cpdef bint ping_sent(self, double now, bint is_awaited) noexcept

    # Put the silence into words, and how much of it this end kept the peer waiting.
    cpdef str silence(self, double heard_at, double now)
    cpdef str stall(self)

    # Make a ping, which may run Python code; then put it down as sent, which does not. `pings` is a new list, for when
    # there is none.
    cpdef Ping new_ping(self, object payload, double now)
    cpdef int note_ping(self, Ping ping, list pings) except -1

    # Match a pong with its ping; it answers the pings before that one, too. An unsolicited pong means nothing.
    cpdef int take_pong(self, bytes payload, double now) except -1

    # Stop waiting for the answer to `ping`.
    cpdef int forget(self, Ping ping) except -1

    # Hand over the pings that were answered since the last call; None for none.
    cpdef list take_answered(self)

    # The last round trip of a ping in seconds, or None before the first.
    cpdef object latency(self)
