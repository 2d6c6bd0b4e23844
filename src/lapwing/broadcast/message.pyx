"""A message on its way to many readers: prepared once, with the policy for those of them that lag."""

cimport cython

__all__ = ["Broadcast"]


@cython.final
cdef class Broadcast:
    """A message on its way to many readers.

    Args:
        prepared: the message, framed and compressed once for all of them.
        policy: decides on it where a reader lags.
        key: the subject of which the message is the latest state, for "keep-latest".

    Attributes:
        prepared, policy, key: the same.
        dropped: messages that readers which lag did not get: this one, or older ones in whose place it waits.

    Raises:
        TypeError: the key is not hashable.
    """

    def __init__(self, Prepared prepared not None, Policy policy not None, key=None):
        try:
            hash(key)
        except TypeError:   # now: some readers would have got the message when the first of them lags
            raise TypeError(
                f"expected key to be hashable, a name or a tuple of names say, got {type(key).__name__}: {key!r:.80}"
            ) from None
        self.prepared = prepared
        self.policy = policy
        self.key = key
