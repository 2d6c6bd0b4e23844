# The life of a connection, for the drivers of both faces: its beginning, its keepalive, its log and its numbers.

from ..broadcast.reader cimport Reader
from ..io.stream cimport Stream
from ..protocol.engine cimport Engine
from ..protocol.sender cimport Output


# Begin again with another engine, as another thread may be looking for it.
cdef int set_engine(Reader reader, Engine engine) noexcept

# Begin again without the results of the last opening handshake, as another thread may be asking for them.
cdef int forget_opening(Reader reader) except -1

# Begin to count, to watch whether the peer is there and, where that is wanted, to log frames of `connection`, which is
# None where a program has let go of it. The settings that every message needs are looked up here.
cdef int begin_life(Reader reader, object connection, double now) except -1

# Let the engine act on the time; `stalled` seconds of it this end could not attend. Returns whether a ping was queued:
# `note_ping` is to be called when it is sent.
cdef bint keep_alive(Reader reader, double now, double stalled) except -1
cdef int note_ping(Reader reader) noexcept

# Count a call for a message that finds the connection at its end; the tenth one raises ConnectionClosed.
cdef int note_end(Reader reader) except -1

# Log the frames that came and went since the last call.
cdef int write_frame_log(Reader reader) except -1

# Send `output` as far as the kernel takes it; `stream.is_full` tells whether it did not take all.
cdef int write(Stream stream, Output *output) except -1

# Statistics: a `ConnectionStats`; the same, cheaper, as plain numbers (see `BaseConnection._sample`).
cdef object take_stock(Reader reader)
cdef tuple sample(Reader reader)
