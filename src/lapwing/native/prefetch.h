/* Bring memory near before it is used. A macro: GCC 12 deletes calls of functions that do nothing else. */
#ifndef LAPWING_PREFETCH_H
#define LAPWING_PREFETCH_H

#if defined(__GNUC__) || defined(__clang__)
#define LAPWING_PREFETCH(address) __builtin_prefetch(address)
#else
#define LAPWING_PREFETCH(address) ((void)(address))
#endif

#define LAPWING_CACHE_LINE 64

/* Each line of `size` bytes. The address is not followed: it may be any. */
#define lapwing_prefetch(address, size)                                                                                \
    do {                                                                                                               \
        const char *lapwing_line = (const char *)(address);                                                            \
        const char *lapwing_end = lapwing_line + (size);                                                               \
        for (; lapwing_line < lapwing_end; lapwing_line += LAPWING_CACHE_LINE)                                         \
            LAPWING_PREFETCH(lapwing_line);                                                                            \
    } while (0)

#endif
