"""How the native engine was built: facts for bug reports that only the compiler knows."""

cdef extern from *:
    """
    #define LAPWING_TEXT(value) #value
    #define LAPWING_TEXT_OF(value) LAPWING_TEXT(value)
    #define LAPWING_CYTHON LAPWING_TEXT_OF(CYTHON_HEX_VERSION)
    #if defined(__clang__) || defined(__GNUC__)
    #define LAPWING_COMPILER __VERSION__
    #elif defined(_MSC_VER)
    #define LAPWING_COMPILER "MSVC " LAPWING_TEXT_OF(_MSC_VER)
    #else
    #define LAPWING_COMPILER "unknown"
    #endif
    #if defined(__OPTIMIZE__) || (defined(_MSC_VER) && !defined(_DEBUG))
    #define LAPWING_OPTIMISED 1
    #else
    #define LAPWING_OPTIMISED 0
    #endif
    #if defined(__SANITIZE_ADDRESS__)
    #define LAPWING_SANITIZED 1
    #else
    #define LAPWING_SANITIZED 0
    #endif
    #if defined(CYTHON_TRACE) && CYTHON_TRACE
    #define LAPWING_TRACED 1
    #else
    #define LAPWING_TRACED 0
    #endif
    """
    const char *LAPWING_CYTHON
    const char *LAPWING_COMPILER
    bint LAPWING_OPTIMISED
    bint LAPWING_SANITIZED
    bint LAPWING_TRACED

__all__ = ["BUILD"]

cdef long _version = int(LAPWING_CYTHON.decode("ascii"), 16)

#: By name: the versions of Cython and of the compiler, whether it optimised, and whether this is a build for tests:
#: with AddressSanitizer, or with line tracing.
BUILD = {
    "cython": f"{_version >> 24}.{_version >> 16 & 0xFF}.{_version >> 8 & 0xFF}",
    "compiler": LAPWING_COMPILER.decode("ascii", "replace"),
    "optimised": bool(LAPWING_OPTIMISED),
    "sanitized": bool(LAPWING_SANITIZED),
    "traced": bool(LAPWING_TRACED),
}
