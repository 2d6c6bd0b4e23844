# What takes the place of the GIL where there is none; costs nothing on a build that has it.


cdef extern from "sharing.h":
    # Whether this is a build without the GIL.
    bint IS_FREE_THREADED "LAPWING_FREE_THREADED"

    ctypedef struct Lock "lapwing_lock":
        pass

    # The thread that holds it may take it again.
    void take_lock "lapwing_lock_take"(Lock *lock) noexcept
    void give_lock "lapwing_lock_give"(Lock *lock) noexcept

    # Put it down, if this thread holds it, for what waits or may call others; `take_up` is given what
    # `put_down` returned.
    unsigned int put_down "lapwing_lock_put_down"(Lock *lock) noexcept
    void take_up "lapwing_lock_take_up"(Lock *lock, unsigned int depth) noexcept

    # Read and write a word that others read without the lock of the one who writes it.
    size_t peek "lapwing_peek"(const size_t *word) noexcept
    void poke "lapwing_poke"(size_t *word, size_t value) noexcept
    double peek_seconds "lapwing_peek_seconds"(const double *seconds) noexcept
    void poke_seconds "lapwing_poke_seconds"(double *seconds, double value) noexcept
