/* Slots that Cython does not give: how `asyncio.Task` asks a wait, and how that is answered without a look-up.
 *
 * For whatever is not exactly an `asyncio.Future`, a task looks up `_asyncio_future_blocking` (twice), `get_loop` and
 * `add_done_callback` by name, and calls the latter two, each time that it begins to wait. Found the usual way, this is
 * a quarter of the work of a message: a search of the type, a bound method and its arguments taken apart by keyword.
 * The slots below compare the name with the few that matter first; `add_done_callback` is the wait itself, called. */
#ifndef LAPWING_WAITER_H
#define LAPWING_WAITER_H

#include <Python.h>

static void lapwing_install_waiter(PyTypeObject *type, getattrofunc get, setattrofunc set, Py_ssize_t vectorcall)
{
    type->tp_getattro = get;
    type->tp_setattro = set;
    type->tp_call = PyVectorcall_Call;
    type->tp_vectorcall_offset = vectorcall;
    type->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL;
    PyType_Modified(type);
}

#endif
