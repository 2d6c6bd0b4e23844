# A message on its way to many readers.

from ..protocol.prepared cimport Prepared
from .policy cimport Policy


cdef class Broadcast:
    cdef readonly Prepared prepared
    cdef readonly Policy policy
    cdef readonly object key
    cdef readonly unsigned long dropped     # messages that readers did not get because of this one, or this one itself
