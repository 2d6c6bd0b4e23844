# Waiting for a descriptor in the calling thread.

cdef extern from *:
    """
    #define LAPWING_LONGEST_WAIT 1e6
    #define LAPWING_GIVEN 0.875
    #define LAPWING_LONG_WAIT 1.0
    #define LAPWING_FIRST_STEP 0.99
    """
    # The longest wait, in seconds, that `threading` and gevent take.
    const double LONGEST_WAIT "LAPWING_LONGEST_WAIT"
    # The descriptor's part of the time of a read: the timer wheel rounds up by less than an eighth.
    const double GIVEN "LAPWING_GIVEN"
    # From how many seconds on a wait is done in steps: `poll` allows itself a thousandth of its time, at a lower
    # priority five, and a step has the last hundredth left to do.
    const double LONG_WAIT "LAPWING_LONG_WAIT"
    const double FIRST_STEP "LAPWING_FIRST_STEP"


# Have the descriptor wait `left` seconds in a read, 0 for ever.
cdef int limit_reads(int fd, double left) except -1

# Wait until the descriptor is ready for READABLE or WRITABLE, at most until the deadline: returns for which it may be
# ready; 0 can come before the deadline, too. Signals are looked at before and after.
cdef int wait_for(int fd, int events, double deadline, bint is_green) except -1
