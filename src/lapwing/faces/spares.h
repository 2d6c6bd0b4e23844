/* Objects of one type that are made and dropped for every message, kept for the next time rather than given back:
 * cleaned, a few of them, without going through the allocator and the constructor again.
 *
 * `NAME_keep(type, clean)` puts it in front of the type's deallocation. `clean` makes an object as new and says whether
 * that could be done; the object has one reference meanwhile. `NAME_take()` gives a new reference, or NULL when none is
 * kept. Without the GIL nothing is kept, nor under AddressSanitizer, which would not see the end of an object. */
#ifndef LAPWING_SPARES_H
#define LAPWING_SPARES_H

#include <Python.h>

#if defined(Py_GIL_DISABLED) || defined(__SANITIZE_ADDRESS__)
enum { LAPWING_SPARES_KEPT = 0 };
#else
enum { LAPWING_SPARES_KEPT = 16 };
#endif

typedef int (*lapwing_cleaner)(PyObject *);

#define LAPWING_SPARES(name)                                                                                           \
    static PyObject *name##_spares[LAPWING_SPARES_KEPT + 1];                                                           \
    static int name##_spare_count;                                                                                     \
    static destructor name##_destroy;                                                                                  \
    static lapwing_cleaner name##_clean;                                                                               \
    static inline PyObject *name##_take(void)                                                                          \
    {                                                                                                                  \
        return name##_spare_count ? name##_spares[--name##_spare_count] : NULL;                                        \
    }                                                                                                                  \
    static void name##_drop(PyObject *self)                                                                            \
    {                                                                                                                  \
        if (name##_spare_count < LAPWING_SPARES_KEPT) {                                                                \
            Py_SET_REFCNT(self, 1);                                                                                    \
            /* Cleaning drops references, and what that runs may keep others meanwhile. */                             \
            if (name##_clean(self) && name##_spare_count < LAPWING_SPARES_KEPT) {                                      \
                name##_spares[name##_spare_count++] = self;                                                            \
                return;                                                                                                \
            }                                                                                                          \
            Py_SET_REFCNT(self, 0);                                                                                    \
        }                                                                                                              \
        name##_destroy(self);                                                                                          \
    }                                                                                                                  \
    static void name##_keep(PyTypeObject *type, lapwing_cleaner clean)                                                 \
    {                                                                                                                  \
        name##_clean = clean;                                                                                          \
        name##_destroy = type->tp_dealloc;                                                                             \
        type->tp_dealloc = name##_drop;                                                                                \
    }

#endif
