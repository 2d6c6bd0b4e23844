/* Awaitables that hand over a value without building an exception.
 *
 * `await` asks its object for the next step. The generic way is `__next__`, which says "finished, with this value" by
 * raising
 * StopIteration: a Python exception built, raised, caught and taken apart for every message. Two C slots avoid that:
 *
 * - `am_send` returns the value and says in its return code that it is final. CPython up to 3.11 uses it for `await`,
 * and
 *   every version uses it when a task runs the awaitable itself.
 * - `tp_iternext`, which `await` uses from 3.12 on, may return NULL without an error set: finished, with None. For any
 * other
 *   value it has to set StopIteration. Up to 3.11 setting it does not build it; from 3.12 on it does, so one instance
 * is
 *   kept and used again as long as nobody else holds it.
 *
 * The type gives one function that takes a step; `lapwing_install` puts both slots in front of it. */
#ifndef LAPWING_AWAITABLE_H
#define LAPWING_AWAITABLE_H

#include <Python.h>

/* Take a step: a new reference to the final value (`*finished` set) or to what the task has to wait for; NULL on error.
 * */
typedef PyObject *(*lapwing_step)(PyObject *self, int *finished);

static inline void lapwing_set_stop_iteration(PyObject *value)
{
#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED)
    static PyStopIterationObject *kept;
    if (kept == NULL || Py_REFCNT(kept) != 1) {
        PyObject *made = PyObject_CallNoArgs(PyExc_StopIteration);
        if (made == NULL)
            return;
        Py_XSETREF(kept, (PyStopIterationObject *)made);
    }
    Py_XSETREF(kept->value, Py_NewRef(value));
    PyErr_SetRaisedException(Py_NewRef((PyObject *)kept));
#else
    /* A tuple or an exception would be taken for the arguments; messages are neither. */
    PyErr_SetObject(PyExc_StopIteration, value);
#endif
}

static inline PyObject *lapwing_next(PyObject *self, lapwing_step step)
{
    int finished = 0;
    PyObject *value = step(self, &finished);
    if (value == NULL || !finished)
        return value;
    if (value != Py_None)
        lapwing_set_stop_iteration(value);
    Py_DECREF(value);
    return NULL;
}

static inline PySendResult lapwing_send(PyObject *self, PyObject **result, lapwing_step step)
{
    int finished = 0;
    *result = step(self, &finished);
    if (*result == NULL)
        return PYGEN_ERROR;
    return finished ? PYGEN_RETURN : PYGEN_NEXT;
}

/* The slots of one type in front of its step, and the function that installs them. */
#define LAPWING_AWAITABLE(name)                                                                                    \
    static lapwing_step name##_step;                                                                               \
    static PyObject *name##_next_slot(PyObject *self)                                                              \
    {                                                                                                              \
        return lapwing_next(self, name##_step);                                                                    \
    }                                                                                                              \
    static PySendResult name##_send_slot(PyObject *self, PyObject *argument, PyObject **result)                    \
    {                                                                                                              \
        (void)argument;                                                                                            \
        return lapwing_send(self, result, name##_step);                                                            \
    }                                                                                                              \
    static void name##_install(PyTypeObject *type, lapwing_step step)                                              \
    {                                                                                                              \
        name##_step = step;                                                                                        \
        type->tp_iternext = name##_next_slot;                                                                      \
        type->tp_as_async->am_send = name##_send_slot;                                                             \
        PyType_Modified(type);                                                                                     \
    }

#endif
