# The common base of the connections of both faces.

from ..broadcast.reader cimport Reader
from ..io.stream cimport Stream
from ..protocol.engine cimport Engine


cdef class BaseConnection:
    cdef object __weakref__
    cdef dict __dict__
    cdef Reader reader              # the driver of the connection: the faces set it, and never change it

    cdef Engine find_engine(self)
    cdef object find_opened(self)
    cdef Stream find_stream(self)
