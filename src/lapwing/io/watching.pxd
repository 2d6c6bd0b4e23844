# The kinds of reactor, and which one a loop has.

from .carrier cimport Carrier
from .reactor cimport Reactor, Source


cdef Reactor reactor_of(object loop, bint portable)

# Serve `source` with what `carrier` brings, in the reactor that the loop has for carriers.
cdef int carry(object loop, Source source, Carrier carrier, int interest) except -1
