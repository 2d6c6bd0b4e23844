/* The innermost frame of Python on this thread's stack. While it stays the same, no code in Python has been called
 * since.
 *
 * It is only compared, never looked into. CPython's public headers declare the field. */
#ifndef LAPWING_FRAMES_H
#define LAPWING_FRAMES_H

#include <Python.h>

static inline const void *lapwing_innermost_frame(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyThreadState_GetUnchecked()->current_frame;
#else
    return _PyThreadState_UncheckedGet()->cframe->current_frame;
#endif
}

#endif
