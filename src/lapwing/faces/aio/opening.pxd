# The opening of a connection that a reactor drives.

from ...io.stream cimport Stream
from ...opening.conversation cimport Opening
from .driver cimport Driver, Stage


cdef class OpeningStage(Stage):
    pass


# Take over a connected stream, and have the conversation on it that opens the connection.
cdef int begin(Driver driver, Stream stream, Opening opening) except -1

# Go on with the decision of a server: send the answer, and open or end the connection.
cdef int answer(Driver driver) except -1
