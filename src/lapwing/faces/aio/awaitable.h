/* Awaitables that hand over a value without building an exception.
 *
 * `await` asks its object for the next step. The generic way is `__next__`, which says "finished, with this value" by
 * raising StopIteration: a Python exception built, raised, caught and taken apart for every message. Two C slots avoid
 * that:
 *
 * - `am_send` returns the value and says in its return code that it is final. CPython up to 3.11 uses it for `await`,
 *   and every version uses it when a task runs the awaitable itself.
 * - `tp_iternext`, which `await` uses from 3.12 on, may return NULL without an error set: finished, with None. For any
 *   other value it has to set StopIteration. Up to 3.11 setting it does not build it; from 3.12 on it does. So it is an
 *   exception of a type of ours: one that is let go of is emptied and kept for the next time.
 *
 * The type gives one function that takes a step; `lapwing_install` puts both slots in front of it. */
#ifndef LAPWING_AWAITABLE_H
#define LAPWING_AWAITABLE_H

#include <Python.h>

/* Take a step: a new reference to the final value (`*finished` set) or to what the task has to wait for; NULL on error.
 * */
typedef PyObject *(*lapwing_step)(PyObject *self, int *finished);

#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED)

static PyObject *lapwing_kept_stop;

/* Empty an exception of ours that nobody holds any more, and keep it if there is none yet. */
static void lapwing_drop_stop(PyObject *self)
{
    PyBaseExceptionObject *stop = (PyBaseExceptionObject *)self;
    if (lapwing_kept_stop == NULL) {
        Py_SET_REFCNT(self, 1);
        /* What this runs may let another one be kept meanwhile. */
        Py_CLEAR(((PyStopIterationObject *)self)->value);
        Py_CLEAR(stop->traceback);
        Py_CLEAR(stop->context);
        Py_CLEAR(stop->cause);
        Py_CLEAR(stop->notes);
        Py_CLEAR(stop->dict);
        stop->suppress_context = 0;
        if (lapwing_kept_stop == NULL) {
            lapwing_kept_stop = self;
            return;
        }
        Py_SET_REFCNT(self, 0);
    }
    ((PyTypeObject *)PyExc_StopIteration)->tp_dealloc(self);
}

static PyTypeObject lapwing_stop_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "lapwing.faces.StopIteration",
    .tp_basicsize = sizeof(PyStopIterationObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_dealloc = lapwing_drop_stop,
};

static inline void lapwing_set_stop_iteration(PyObject *value)
{
    PyObject *stop = lapwing_kept_stop;
    lapwing_kept_stop = NULL;
    if (stop == NULL) {
        if (lapwing_stop_type.tp_base == NULL) {
            lapwing_stop_type.tp_base = (PyTypeObject *)PyExc_StopIteration;
            if (PyType_Ready(&lapwing_stop_type) < 0)
                return;
        }
        stop = PyObject_CallNoArgs((PyObject *)&lapwing_stop_type);
        if (stop == NULL)
            return;
    }
    Py_XSETREF(((PyStopIterationObject *)stop)->value, Py_NewRef(value));
    PyErr_SetRaisedException(stop);
}

#else

static inline void lapwing_set_stop_iteration(PyObject *value)
{
    /* A tuple or an exception would be taken for the arguments; messages are neither. */
    PyErr_SetObject(PyExc_StopIteration, value);
}

#endif

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
#define LAPWING_AWAITABLE(name)                                                                                        \
    static lapwing_step name##_step;                                                                                   \
    static PyObject *name##_next_slot(PyObject *self)                                                                  \
    {                                                                                                                  \
        return lapwing_next(self, name##_step);                                                                        \
    }                                                                                                                  \
    static PySendResult name##_send_slot(PyObject *self, PyObject *argument, PyObject **result)                        \
    {                                                                                                                  \
        (void)argument;                                                                                                \
        return lapwing_send(self, result, name##_step);                                                                \
    }                                                                                                                  \
    static void name##_install(PyTypeObject *type, lapwing_step step)                                                  \
    {                                                                                                                  \
        name##_step = step;                                                                                            \
        type->tp_iternext = name##_next_slot;                                                                          \
        type->tp_as_async->am_send = name##_send_slot;                                                                 \
        PyType_Modified(type);                                                                                         \
    }

#endif
