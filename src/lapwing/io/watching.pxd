# The kinds of reactor, and which one a loop has.

from .reactor cimport Reactor


cdef Reactor reactor_of(object loop, bint portable)
