/* `send` with a message alone and `receive` with nothing at all, in front of the methods that take arguments apart.
 *
 * Of the two that do the work, `lapwing_quick_send` and `lapwing_quick_receive`, the including module gives the
 * definitions; of the full methods, their descriptors. */
#ifndef LAPWING_QUICK_CALLS_H
#define LAPWING_QUICK_CALLS_H

#include <Python.h>

static PyObject *lapwing_quick_send(PyObject *, PyObject *);
static PyObject *lapwing_quick_receive(PyObject *);
static _PyCFunctionFastWithKeywords lapwing_full_send, lapwing_full_receive;

static PyObject *lapwing_send_method(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords)
{
    if (count == 1 && keywords == NULL)
        return lapwing_quick_send(self, arguments[0]);
    return lapwing_full_send(self, arguments, count, keywords);
}

static PyObject *lapwing_receive_method(
    PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords)
{
    if (count == 0 && keywords == NULL)
        return lapwing_quick_receive(self);
    return lapwing_full_receive(self, arguments, count, keywords);
}

static PyMethodDef lapwing_quick_methods[] = {
    {"send", (PyCFunction)(void (*)(void))lapwing_send_method, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"receive", (PyCFunction)(void (*)(void))lapwing_receive_method, METH_FASTCALL | METH_KEYWORDS, NULL},
};

/* Take over the function and the docstring of `full`, a method as Cython has made it. */
static void lapwing_stand_before(PyMethodDef *quick, _PyCFunctionFastWithKeywords *full, PyObject *descriptor)
{
    PyMethodDef *method = ((PyMethodDescrObject *)descriptor)->d_method;
    *full = (_PyCFunctionFastWithKeywords)(void (*)(void))method->ml_meth;
    quick->ml_doc = method->ml_doc;
}

static int lapwing_quick_calls(PyTypeObject *type)
{
    for (int i = 0; i < 2; i++) {
        PyObject *method = PyDescr_NewMethod(type, &lapwing_quick_methods[i]);
        if (method == NULL)
            return -1;
        int outcome = PyDict_SetItemString(type->tp_dict, lapwing_quick_methods[i].ml_name, method);
        Py_DECREF(method);
        if (outcome < 0)
            return -1;
    }
    PyType_Modified(type);
    return 0;
}

#endif
