"""Objects of native classes that a program makes itself, rather than lapwing: they raise, or do nothing.

Each class has a process of its own, since what goes wrong here ends one.
"""

from __future__ import annotations

import pytest

import lapwing
from tests.faces.callers import GUARD
from tests.faces.programs import program

CLASSES = [
    "lapwing.faces.connection.BaseConnection",
    "lapwing.faces.blocking.driver.Attendant",
    "lapwing.faces.blocking.driver.Driver",
    "lapwing.faces.blocking.messages.BlockingMessageStream",
    "lapwing.faces.blocking.connection.BlockingConnection",
    "lapwing.faces.blocking.client.Client",
    "lapwing.serving.threaded.ThreadConnection",
    "lapwing.serving.threaded.LoopSource",
    "lapwing.serving.threaded.LoopAttendant",
    "lapwing.faces.aio.driver.Driver",
    "lapwing.faces.aio.driver.Stage",
    "lapwing.faces.aio.opening.OpeningStage",
]

TRYING = """
    import faulthandler, importlib, itertools, sys, warnings
    faulthandler.enable()
    warnings.simplefilter("ignore")
    module, _, name = sys.argv[1].rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    import lapwing
    from lapwing.faces.blocking.connection import BlockingConnection
    from lapwing.serving.threaded import ThreadConnection

    ARGUMENTS = [None, 0, "text", lapwing.Client(), BlockingConnection(), ThreadConnection()]
    made = []
    for count in range(4):
        for arguments in itertools.product(ARGUMENTS, repeat=count):
            for make in (cls, lambda *arguments: cls.__new__(cls, *arguments)):
                try:
                    made.append(make(*arguments))
                except Exception:
                    pass
    for thing in made[:20]:
        repr(thing)
        for name in dir(thing):
            if name in ("__class__", "__init_subclass__", "__subclasshook__", "__reduce__", "__reduce_ex__"):
                continue
            try:
                value = getattr(thing, name)
            except Exception:
                continue
            for count in range(3):
                for arguments in itertools.product(ARGUMENTS[:4], repeat=count):
                    try:
                        value(*arguments)
                    except Exception:
                        pass
        if hasattr(cls, "__next__"):
            try:
                next(thing)
            except Exception:
                pass
    print(len(made))
"""


@pytest.mark.parametrize("name", CLASSES)
def test_what_it_does(name: str) -> None:
    with program(TRYING, name) as process:
        said, complaints = process.communicate(timeout=3 * GUARD)
        assert process.returncode == 0, complaints
        assert said.strip().isdigit()


def test_a_stream_is_made_by_receive_stream() -> None:
    from lapwing.faces.blocking.messages import BlockingMessageStream

    with pytest.raises(RuntimeError, match="not connected"):
        BlockingMessageStream(lapwing.Client(), None, None)
