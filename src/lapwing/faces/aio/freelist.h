/* Objects of one type that are made and dropped for every message, kept for the next time rather than given back:
 * cleaned, a few of them, without going through the allocator and the constructor again.
 *
 * `NAME_keep(type, clean)` puts it in front of the type's deallocation. `clean` makes an object as new and says whether
 * that could be done; the object has one reference meanwhile. `NAME_take()` gives a new reference, or NULL when none is
 * kept. Without the GIL nothing is kept, nor under AddressSanitizer, which would not see the end of an object. */
#ifndef LAPWING_FREELIST_H
#define LAPWING_FREELIST_H

#include <Python.h>

#if defined(Py_GIL_DISABLED) || defined(__SANITIZE_ADDRESS__)
enum { LAPWING_FREELIST_KEPT = 0 };
#else
enum { LAPWING_FREELIST_KEPT = 16 };
#endif

typedef int (*lapwing_cleaner)(PyObject *);

#define LAPWING_FREELIST(name)                                                                                         \
    static PyObject *name##_freelist[LAPWING_FREELIST_KEPT + 1];                                                       \
    static int name##_freelist_size;                                                                                   \
    static destructor name##_destroy;                                                                                  \
    static lapwing_cleaner name##_clean;                                                                               \
    static inline PyObject *name##_take(void)                                                                          \
    {                                                                                                                  \
        return name##_freelist_size ? name##_freelist[--name##_freelist_size] : NULL;                                  \
    }                                                                                                                  \
    static void name##_drop(PyObject *self)                                                                            \
    {                                                                                                                  \
        if (name##_freelist_size < LAPWING_FREELIST_KEPT) {                                                            \
            Py_SET_REFCNT(self, 1);                                                                                    \
            /* Cleaning drops references, and what that runs may keep others meanwhile. */                             \
            if (name##_clean(self) && name##_freelist_size < LAPWING_FREELIST_KEPT) {                                  \
                name##_freelist[name##_freelist_size++] = self;                                                        \
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
