"""Objects that a program makes by hand rather than by the calls that give them: errors, and never a crash."""

from __future__ import annotations

import asyncio
import gc
import inspect
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tests.faces.callers import GUARD, call, facing_server
from tests.faces.programs import program
from tests.peers import wire

Listen = Callable[..., Any]

#: Every type of an extension module, made without its constructor and with it, and everything that it has, called with
#: little and with nothing.
PROGRAM = """
    import asyncio, gc, importlib, inspect, pkgutil, sys, warnings
    import lapwing

    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda unraisable: None
    modules = []
    for module in pkgutil.walk_packages(lapwing.__path__, "lapwing."):
        if not module.name.startswith(("lapwing.cli", "lapwing.__main__")):
            try:
                modules.append(importlib.import_module(module.name))
            except ImportError:
                pass
    kinds = {kind for module in modules for kind in vars(module).values()
             if isinstance(kind, type) and getattr(kind, "__module__", "").startswith("lapwing.")
             and not inspect.isfunction(kind.__init__)}

    def attempt(call, *arguments):
        try:
            made = call(*arguments)
            if hasattr(made, "close") and hasattr(made, "send") and hasattr(made, "throw"):
                try:
                    made.send(None)
                except BaseException:
                    pass
                made.close()
            return made
        except BaseException:
            return None

    async def main():
        count = 0
        for kind in sorted(kinds, key=lambda kind: (kind.__module__, kind.__name__)):
            for make in (lambda: kind.__new__(kind), lambda: kind(), lambda: kind(lapwing.AsyncClient(), None, None),
                         lambda: kind(lapwing.Client(), None, None), lambda: kind(lapwing.Connection())):
                for name in dir(kind):
                    if name in ("__class__", "__init_subclass__", "__subclasshook__", "__del__"):
                        continue
                    if attempt(make) is None:
                        break
                    print(kind.__module__, kind.__name__, name, file=sys.stderr)
                    made = attempt(make)
                    member = attempt(getattr, made, name)
                    if callable(member):
                        for arguments in ((), (None,), ("x",), (b"x",), (1, ""), (made,), (None, None, None)):
                            attempt(member, *arguments)
                            count += 1
                    attempt(repr, made)
                    attempt(next, made)
                    attempt(iter, made)
        print(len(kinds), count)

    asyncio.run(main())
    gc.collect()
    print("well")
"""


def test_no_object_made_by_hand_crashes() -> None:
    with program(PROGRAM) as process:
        output, errors = process.communicate(timeout=6 * GUARD)
    assert process.returncode == 0, errors[-300:]
    kinds, count = map(int, output.split()[:2])
    assert kinds > 20
    assert count > 1000


async def test_a_receive_of_its_own(listen: Listen) -> None:
    async with facing_server(listen) as (ws, _):
        receiving = ws.receive()
        made = type(receiving)()
        with pytest.raises(RuntimeError, match="call receive"):
            made.send(None)
        assert "receive()" in repr(made)
        receiving.close()


async def test_the_last_message_is_let_go_of(listen: Listen) -> None:
    """What hands it over keeps neither the message nor the frames that it passed through."""

    class Held:
        pass

    async with facing_server(listen) as (ws, peer):

        async def take() -> weakref.ref[Held]:
            held = Held()
            message = await ws.receive()
            assert isinstance(message, bytes)
            # From Python 3.14 on the collector sees what the coroutine that runs refers to.
            holders.extend(each for each in gc.get_referrers(message) if not inspect.iscoroutine(each))
            return weakref.ref(held)

        holders: list[object] = []
        for waits in (True, False):
            if waits:
                taking = asyncio.create_task(take())
                await asyncio.sleep(0)
                await call(peer.send_frame, wire.BINARY, b"message")
                reference = await taking
            else:
                await call(peer.send_frame, wire.BINARY, b"message")
                while not ws.stats().queued_messages:
                    await asyncio.sleep(0)
                reference = await take()
            assert reference() is None
        assert holders == []
