"""Large messages read right into their place: the `bytes` object that the application will get.

Two cases. Of the message under way much is missing: the rest of it goes there. Or none is under way, but the last two
were large and of the same size, as those of a program often are: one more like them is expected. The kernel is then
asked to put as many bytes as its header will have into the reader's buffer, and the next ones into the place. When the
header turns out to be another, all is put together in the buffer as it came, and taken from there.

While bytes are read into the place, it is lent: see `Assembly.drop` for the case that others end the message then.
"""

from libc.string cimport memcmp, memcpy, memmove

from ..native.buffer cimport buffer_size
from ..native.landing cimport Landing
from .decoder cimport IN_DATA
from .frame cimport BINARY_FRAME, MAX_HEADER_SIZE, mask_payload, write_header
from .limits cimport LARGE_REST, MOST_EXPECTED
from .receiver cimport DISCARDING, READY, SKIPPED, STREAMED, WHOLE, Receiver, lags, is_over

__all__ = []


cdef int find_place(Receiver receiver, Landing *landing, bint may_expect) except -1:
    if receiver.is_lent:
        receiver.end_loan()
    landing.head = 0
    landing.room = NULL
    if receiver.decoder.stage == IN_DATA:
        if (
            receiver.decoder.remaining < LARGE_REST or receiver.reading != WHOLE or buffer_size(&receiver.undecoded)
            or receiver.inflation() is not None
        ):
            return 0
        receiver.make_room(1, receiver.decoder.remaining)
        landing.room_size = min(receiver.decoder.remaining, receiver.assembly.room())
    elif may_expect and receiver.is_steady and LARGE_REST <= receiver.last_length <= MOST_EXPECTED:
        if receiver.last_length > receiver.max_message or not is_between_messages(receiver):
            return 0
        receiver.make_room(receiver.last_length, 0)
        landing.room_size = receiver.last_length
        landing.head = (4 if receiver.last_length <= 0xFFFF else 10) + (4 if receiver.mask_bit else 0)
    else:
        return 0
    receiver.is_lent = True
    landing.room = receiver.assembly.end()
    return 0


cdef size_t take_placed(Receiver receiver, const Landing *landing, unsigned char *buffer, size_t count) except? 0:
    cdef size_t head = landing.head
    cdef size_t inside = min(count - head, landing.room_size) if count > head else 0
    cdef size_t used
    if head:
        if (
            not inside or receiver.assembly.bytes is NULL or not is_between_messages(receiver)
            or not is_expected(receiver, buffer, head)
        ):
            return take_unexpected(receiver, landing, buffer, count)
        receiver.received_wire += head
        receiver.decoder.read(buffer, head, &used)
        receiver.begin_data()
    receiver.is_decoding = True
    try:
        take_inside(receiver, inside)
    finally:
        receiver.is_decoding = False
    return head + inside


cdef bint is_between_messages(Receiver receiver) noexcept:
    """Whether the next byte begins a message, if it is one, that would be put together."""
    return (
        receiver.reading == READY and receiver.decoder.is_between_messages() and receiver.log is None
        and not receiver.is_decoding and not buffer_size(&receiver.undecoded) and not lags(receiver)
    )


cdef bint is_expected(Receiver receiver, const unsigned char *header, size_t size) noexcept:
    """Whether a header is that of a message as the last one was."""
    cdef unsigned char expected[MAX_HEADER_SIZE]
    cdef size_t key_size = 4 if receiver.mask_bit else 0
    write_header(expected, 0x80 | BINARY_FRAME, receiver.last_length, NULL)
    expected[1] |= receiver.mask_bit
    return memcmp(header, expected, size - key_size) == 0


cdef size_t take_unexpected(
    Receiver receiver, const Landing *landing, unsigned char *buffer, size_t count
) except? 0:
    """Take other input than the expected message: put together in the buffer, in the order in which it came."""
    cdef size_t head = landing.head
    cdef size_t inside = min(count - head, landing.room_size) if count > head else 0
    if inside:
        memmove(buffer + head + inside, buffer + head, count - head - inside)
        memcpy(buffer + head, landing.room, inside)
    receiver.end_loan()
    receiver.is_steady = False
    if is_between_messages(receiver):
        receiver.assembly.drop(False)
    return 0


cdef int take_inside(Receiver receiver, size_t size) except -1:
    """Take bytes that stand in their place."""
    cdef unsigned char *place
    receiver.end_loan()
    if is_over(receiver):
        return 0
    receiver.received_wire += size
    if receiver.reading == SKIPPED or receiver.reading == DISCARDING:
        receiver.decoder.remaining -= size      # its message was given up while the bytes were on their way
    else:
        place = receiver.assembly.end()
        if receiver.decoder.frame.masked:
            mask_payload(
                place, place, size, receiver.decoder.frame.key,
                receiver.decoder.frame.length - receiver.decoder.remaining)
        receiver.decoder.remaining -= size
        receiver.count_payload(place, size)
        if receiver.reading == STREAMED:        # it became so in that time
            receiver.adopt()
    if receiver.decoder.remaining == 0 and not is_over(receiver):
        receiver.end_data()
    return 0
