# Every threshold of the native engine: sizes in bytes, times in seconds. `limits.py` has the limits of the opening
# handshake, which is Python, and `options` those that a program chooses.

cdef enum:
    # --- input ---
    # The cost of a queued message in addition to its bytes: the head of the object and its place in the queue.
    MESSAGE_OVERHEAD = 64
    # A message is given this much memory at once on its declared length alone; beyond, memory follows the bytes that
    # come.
    EAGER_MEMORY = 1024 * 1024
    # Freed messages of this size are worth keeping the memory of.
    LARGE_MESSAGE = 256 * 1024
    # From this much missing payload on, it is worth a read of its own into its place; below, a copy is cheaper.
    LARGE_REST = 16 * 1024
    # Up to this size a message is expected again. So much memory a reader may hold while it waits.
    MOST_EXPECTED = 128 * 1024

    # --- compression ---
    # Bytes that a compressed message may have beyond the size limit: what does not compress grows a little, and each
    # fragment has a few bytes of its own. Nothing of them is held.
    DEFLATE_OVERHEAD = 16 * 1024
    # Bytes of a compressed message that are inflated without looking at what else is to be done.
    SLICE = 16 * 1024
    # Bytes of a compressed message that is streamed that make a piece: what may be held beyond the limits.
    STREAMED_PIECE = 64 * 1024
    # Bytes that are inflated in one step, and close to the size limit of the message, so that with the decompressor's
    # own 40 KiB no more than 64 KiB beyond the limit are ever allocated.
    PIECE = 32 * 1024
    LAST_PIECE = 8 * 1024
    # A block with BFINAL set costs its reader a new decompressor, a hundred times as much as its sender. So many are
    # taken, and one more for every so many bytes.
    FINAL_BLOCKS = 64
    BYTES_PER_FINAL_BLOCK = 16
    # Messages below this are compressed with `SMALL_LEVEL` where the application did not choose a level: at this size
    # it costs a few microseconds and gains a few per cent, beyond it is slower and no better (bench/NOTES.md).
    SMALL_MESSAGE = 2048
    # Idle compressors that a pool keeps, each of about 200 KiB.
    POOL_SIZE = 4

    # --- output ---
    # From this size on a payload that needs no mask is sent from where it is: below, a copy costs less than the second
    # segment of a gathering write.
    LARGE_PAYLOAD = 16 * 1024
    # At this much unsent output a call that sends waits until it leaves, and a burst is not waited for any longer.
    MUCH_OUTPUT = 64 * 1024
    # A call that waits to send goes on when no more than this is unsent.
    LITTLE_OUTPUT = 16 * 1024
    # The cost of a message that has to wait for its turn, in addition to its payload: objects and a place, measured at
    # about 240. Without them messages of no or few bytes would not be bounded.
    POSTPONED_OVERHEAD = 256

    # --- pings ---
    # Pongs wait in the output up to this many bytes; a peer that pings faster than it reads gets only the newest
    # answered, which RFC 6455 section 5.5.3 allows.
    MAX_WAITING_PONGS = 16 * 1024
    # Pings without an answer that are remembered; the oldest that no call waits for is forgotten first.
    MAX_WAITING_PINGS = 64
    # A ping behind more output than this would measure how slowly the peer reads.
    MUCH_UNSENT = 16 * 1024

    # --- the end ---
    # Seconds that a blocking call gives the peer to close TCP first, once the messages have ended: no later call could
    # wait for that.
    LONGEST_LINGER = 1
