# The threads that are inside the methods of an object: `callers.h` says what it is for.


cdef extern from "callers.h":
    ctypedef struct Callers "lapwing_callers":
        pass

    # A number for the calling thread, other than 0.
    unsigned long this_thread "lapwing_this_thread"() noexcept

    # Enter and leave alone; false when that would not do.
    bint callers_enter "lapwing_callers_enter"(Callers *callers, unsigned long thread) noexcept
    bint callers_leave "lapwing_callers_leave"(Callers *callers, unsigned long thread) noexcept

    # Have every call looked at, so that none enters or leaves alone: -1 without memory.
    int callers_watch "lapwing_callers_watch"(Callers *callers, bint wanted) noexcept

    bint callers_has "lapwing_callers_has"(const Callers *callers, unsigned long thread) noexcept
    unsigned int callers_count "lapwing_callers_count"(const Callers *callers) noexcept

    # Add a thread that is not there to the others: -1 without memory.
    int callers_add "lapwing_callers_add"(Callers *callers, unsigned long thread) noexcept

    # Remove a thread from the others, if it is there.
    void callers_remove "lapwing_callers_remove"(Callers *callers, unsigned long thread) noexcept
    void callers_free "lapwing_callers_free"(Callers *callers) noexcept
