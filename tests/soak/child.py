"""Processes of their own that are asked things, in lines of JSON on stdin and stdout."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]

#: Seconds after which a process that does not answer is given up.
TIMEOUT = 240.0

Answer = dict[str, Any]


class Child:
    """A Python process that runs a module of this directory; it ends with the `with` block.

    Args:
        module: its name in tests.soak.
        arguments: for its command line.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.soak.{module}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT,
            text=True,
        )
        self.pid = self._process.pid

    def begin(self, what: str, **arguments: object) -> None:
        """Ask for something; `answer` is to follow."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([what, arguments]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Answer:
        """Wait for the answer."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], TIMEOUT)
        assert ready, f"no answer from process {self.pid}"
        line = self._process.stdout.readline()
        assert line, f"process {self.pid} ended without an answer, with {self._process.wait()}"
        answer: Answer = json.loads(line)
        return answer

    def ask(self, what: str, **arguments: object) -> Answer:
        """Ask for something and wait for the answer."""
        self.begin(what, **arguments)
        return self.answer()

    def kill(self) -> None:
        """End it at once: its kernel objects are all that is left to close its connections."""
        self._process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def next_question() -> tuple[str, Answer] | None:
    """In the child: what is asked next, None at the end."""
    line = sys.stdin.readline()
    if not line:
        return None
    what, arguments = json.loads(line)
    return what, arguments


def give(answer: Answer) -> None:
    """In the child: answer."""
    print(json.dumps(answer), flush=True)


async def answer_all(loop_runs: Callable[[Callable[[], Any]], Awaitable[Any]], **answers: Callable[..., Any]) -> None:
    """In the child, in an event loop: answer until nobody asks any more.

    Args:
        loop_runs: waits for a function that blocks, in another thread: `asyncio.to_thread`.
        answers: coroutine functions that answer, by what they are asked.
    """
    while (question := await loop_runs(next_question)) is not None:
        what, arguments = question
        give(await answers[what](**arguments))
