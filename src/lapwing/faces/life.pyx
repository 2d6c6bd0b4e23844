"""The life of a connection, for the drivers of both faces: its beginning, its keepalive, its log and its numbers.

These functions work on a `Reader`, the part that both drivers have in common. They know neither an event loop nor
threads; a driver calls them in the thread that it belongs to at that moment.
"""

import sys

from libc.stdint cimport int64_t

from ..broadcast.reader cimport Reader
from ..io.clock cimport clock
from ..io.stream cimport Stream, is_direct, is_native
from ..native.buffer cimport buffer_size
from ..native.instant cimport NEVER
from ..native.sharing cimport give_lock, put_down, take_lock, take_up
from ..protocol.engine cimport Counts, Engine
from ..protocol.frame cimport MAX_CONTROL_PAYLOAD
from ..protocol.receiver cimport snapshot
from ..protocol.sender cimport Output, consume, output_size
from ..protocol.state cimport CLOSED

from ..stats import ConnectionStats

__all__ = []


cdef enum:
    # Output that is no more than a ping and what little goes with it: a ping behind it need not wait.
    PING_SIZE = 256
    # At this many calls for a message after the end, a program has not seen that it has come.
    MOST_ENDS = 10
    DEBUG = 10  # as in `logging`


cdef object found_logger = None


cdef object frame_logger():
    """The logger for frames; None where logging was not imported: no logger can have been enabled before."""
    global found_logger
    if found_logger is None:
        logging = sys.modules.get("logging")
        if logging is not None:
            found_logger = logging.getLogger("lapwing.frames")
    return found_logger


cdef int set_engine(Reader reader, Engine engine) noexcept:
    cdef Engine _held = reader.engine     # released when no thread can find it any more
    take_lock(&reader.lock)
    reader.engine = engine
    reader.ends = 0
    reader.is_end_told = False
    give_lock(&reader.lock)
    return 0


cdef int forget_opening(Reader reader) except -1:
    cdef tuple _held = (reader.opened, reader.agreed, reader.stream)  # goes when it cannot be found any more
    take_lock(&reader.lock)
    reader.opened = reader.agreed = reader.stream = None
    give_lock(&reader.lock)
    return 0


cdef int begin_life(Reader reader, object connection, double now) except -1:
    reader.opened_at = now
    reader.ended_at = reader.expired_at = 0
    reader.delivered = -1
    reader.frame_log = None
    reader.own_timeout = -1 if reader.settings.timeout is None else reader.settings.timeout
    reader.engine.keep_alive(
        NEVER if reader.settings.ping_interval is None else reader.settings.ping_interval,
        NEVER if reader.settings.ping_timeout is None else reader.settings.ping_timeout, now)
    logger = frame_logger()
    # Payloads may be secrets: its own level has to say so, not one that it has from above.
    if connection is not None and logger is not None and logger.level and logger.isEnabledFor(DEBUG):
        from .frames import FrameLog

        reader.frame_log = FrameLog(connection)
        reader.engine.record_frames(MAX_CONTROL_PAYLOAD)
    return 0


cdef bint keep_alive(Reader reader, double now, double stalled) except -1:
    cdef Engine engine = reader.engine
    cdef int64_t before = reader.delivered
    if before >= 0 and engine.is_dead(now, stalled):
        # A ping behind much output takes its time: as long as that arrives, the peer is there.
        note_ping(reader)
        if reader.delivered > before or reader.delivered < 0:
            engine.send_keepalive(now)
            return True
    return engine.act_on_time(now, stalled)


cdef int note_ping(Reader reader) noexcept:
    cdef size_t unsent = reader.unsent_size()
    cdef unsigned int unacknowledged = reader.stream.unacknowledged()
    if unsent + unacknowledged <= PING_SIZE:
        reader.delivered = -1
    else:
        reader.delivered = max(<int64_t>(reader.engine.counts().sent_wire - unsent) - unacknowledged, 0)
    return 0


cdef int note_end(Reader reader) except -1:
    reader.ends += 1
    if reader.ends >= MOST_ENDS:
        raise reader.engine.closed_error()
    return 0


cdef int write_frame_log(Reader reader) except -1:
    cdef Engine engine = reader.engine
    cdef object log = reader.frame_log    # another thread may end it
    cdef unsigned int depth
    if log is None or engine is None or not engine.has_frames():
        return 0
    frames = engine.take_frames()
    depth = put_down(&reader.lock)
    try:
        log.write(frames)
    finally:
        take_up(&reader.lock, depth)
    return 0


cdef int write(Stream stream, Output *output) except -1:
    cdef size_t own
    cdef Py_ssize_t count
    cdef bint is_layered = not is_direct(stream)
    # Before more is encrypted, the rest goes. Output that a native session made by itself can go with new output.
    if is_layered and (stream.unsent or not output_size(output) or not is_native(stream)) and not stream.push():
        return 0
    while output_size(output):
        own = buffer_size(&output.head)
        if own:
            count = stream.send(output.head.data + output.head.start, own, output.payload, output.payload_size)
        else:
            count = stream.send(output.payload, output.payload_size, NULL, 0)
        consume(output, count)    # before anything else runs
        if stream.is_full or (is_layered and not stream.push()):
            break
    return 0


cdef object take_stock(Reader reader):
    cdef Engine engine = reader.engine
    cdef double until
    cdef size_t unsent
    cdef Counts counts
    if engine is None:
        return ConnectionStats()
    until = engine.now if engine.phase == CLOSED else clock()
    unsent = snapshot(reader.unsent_size())
    counts = engine.counts()
    return ConnectionStats(
        messages_received=counts.received_messages,
        messages_sent=counts.sent_messages,
        payload_received=counts.received_payload,
        payload_sent=counts.sent_payload,
        wire_received=counts.received_wire,
        wire_sent=counts.sent_wire,
        controls_received=counts.received_controls,
        controls_sent=counts.sent_controls,
        queued_messages=engine.waiting(),
        queued_bytes=engine.waiting_bytes(),
        unsent_bytes=unsent,
        held_bytes=(
            engine.held_input() + reader.lagging_bytes() + unsent
            + (0 if reader.stream is None else reader.stream.held_bytes())),
        dropped_broadcasts=reader.dropped,
        latency=engine.latency(),
        age=max(until - reader.opened_at, 0.0) if reader.opened_at else 0.0,
    )


cdef tuple sample(Reader reader):
    cdef Engine engine = reader.engine
    cdef size_t unsent
    cdef Counts counts
    cdef object latency
    if engine is None:
        raise RuntimeError("there is nothing to count before the connection is open")
    unsent = reader.unsent_size()
    counts = engine.counts()
    latency = engine.latency()
    return (
        counts.received_messages, counts.sent_messages, counts.received_wire, counts.sent_wire,
        counts.received_payload, counts.sent_payload, engine.waiting(), engine.waiting_bytes(),
        unsent, engine.held_input() + reader.lagging_bytes() + unsent + reader.stream.held_bytes(),
        reader.dropped,
        -1 if latency is None else <int64_t>(<double>latency * 1e6),
    )
