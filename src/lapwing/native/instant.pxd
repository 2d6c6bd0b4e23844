# Instants and durations: seconds as a double, of a clock that never goes back. Where it begins does not matter.

cdef extern from "<math.h>" nogil:
    # After every instant, and longer than every duration: a deadline that never comes, an interval that does not end.
    double NEVER "INFINITY"
