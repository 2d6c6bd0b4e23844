/* What the garbage collector has to know beyond the attributes that Cython tells it of: references that are counted by
 * hand.
 *
 * `visit` shows the collector each of them, as often as it was counted; it must not change a reference count. `drop`
 * drops them when the collector takes the object apart. `NAME_collect(type, visit, drop)` puts both in front of what
 * the type has; NULL stands for nothing to do. */
#ifndef LAPWING_COLLECTING_H
#define LAPWING_COLLECTING_H

#include <Python.h>

typedef int (*lapwing_visit_references)(PyObject *, visitproc, void *);
typedef void (*lapwing_drop_references)(PyObject *);

#define LAPWING_COLLECTED(name)                                                                                        \
    static lapwing_visit_references name##_visit;                                                                      \
    static lapwing_drop_references name##_drop;                                                                        \
    static traverseproc name##_traverse_rest;                                                                          \
    static inquiry name##_clear_rest;                                                                                  \
    static int name##_traverse(PyObject *self, visitproc visit, void *argument)                                        \
    {                                                                                                                  \
        int outcome = name##_visit == NULL ? 0 : name##_visit(self, visit, argument);                                  \
        return outcome || name##_traverse_rest == NULL ? outcome : name##_traverse_rest(self, visit, argument);        \
    }                                                                                                                  \
    static int name##_clear(PyObject *self)                                                                            \
    {                                                                                                                  \
        name##_drop(self);                                                                                             \
        return name##_clear_rest == NULL ? 0 : name##_clear_rest(self);                                                \
    }                                                                                                                  \
    static void name##_collect(PyTypeObject *type, lapwing_visit_references visit, lapwing_drop_references drop)       \
    {                                                                                                                  \
        name##_visit = visit;                                                                                          \
        name##_drop = drop;                                                                                            \
        name##_traverse_rest = type->tp_traverse;                                                                      \
        name##_clear_rest = type->tp_clear;                                                                            \
        type->tp_traverse = name##_traverse;                                                                           \
        type->tp_clear = name##_clear;                                                                                 \
        PyType_Modified(type);                                                                                         \
    }

#endif
