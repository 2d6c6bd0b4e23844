"""What a process holds: memory, descriptors and tasks (Linux)."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Held(NamedTuple):
    """What a process holds at a moment when it is idle.

    Attributes:
        resident: bytes of its memory that are in RAM and its own.
        blocks: blocks that Python's allocator has given out.
        allocated: bytes that the C library has given out in the main thread, Python's own arenas not counted. This and
            `blocks` tell a leak of a hundred bytes from noise, which `resident` cannot.
        descriptors: how many are open.
        watched: descriptors in epoll sets, of the loop and of lapwing's reactor.
        tasks: asyncio tasks beside the one that asks.
    """

    resident: int
    blocks: int
    allocated: int
    descriptors: int
    watched: int
    tasks: int


class _MallInfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):  # another C library, or glibc before 2.33
        return None
    library.mallinfo2.restype = _MallInfo2
    return library


_LIBRARY = _glibc()


def _allocated() -> int:
    if _LIBRARY is None:
        return 0
    info = _LIBRARY.mallinfo2()
    return int(info.uordblks + info.hblkhd)  # from its heap, and mapped because they are large


def _resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise LookupError("/proc/self/status has no RssAnon")


def _open_files() -> dict[str, str]:
    """What each descriptor is open for. Without pathlib, which interns every part of a path: from 3.12 on for ever."""
    with os.scandir("/proc/self/fd") as entries:
        paths = {entry.name: entry.path for entry in entries}
    found = {}
    for name, path in paths.items():
        with suppress(FileNotFoundError):  # the directory's own, closed by now
            found[name] = os.readlink(path)  # noqa: PTH115
    return found


def descriptors() -> int:
    """How many descriptors are open."""
    return len(_open_files())


def watched() -> int:
    """How many descriptors are in epoll sets."""
    found = 0
    for descriptor, target in _open_files().items():
        if target == "anon_inode:[eventpoll]":
            found += Path("/proc/self/fdinfo", descriptor).read_text().count("tfd:")
    return found


def held() -> Held:
    """Measure, after giving back what can be given back."""
    for _ in range(3):
        gc.collect()
    if _LIBRARY is not None:
        _LIBRARY.malloc_trim(0)
    try:
        tasks = len(asyncio.all_tasks()) - 1
    except RuntimeError:  # no event loop is running
        tasks = 0
    return Held(_resident(), sys.getallocatedblocks(), _allocated(), descriptors(), watched(), tasks)


def allow_descriptors() -> int:
    """Allow this process as many descriptors as it may have; returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def check_idle(before: Held, after: Held) -> None:
    """No descriptor and no task is left."""
    assert after.descriptors == before.descriptors, (before, after)
    assert after.watched == before.watched, (before, after)
    assert after.tasks == before.tasks, (before, after)


def check_flat(before: Held, after: Held) -> None:
    """What was held before and after any number of connections is the same, but for a little that does not grow."""
    check_idle(before, after)
    assert after.blocks - before.blocks < 1_000, (before, after)
    # Tables that grow with the most connections at once do not shrink at once: with the portable reactor asyncio's own,
    # of a few hundred KiB. One object left behind by each connection would show in the blocks.
    assert after.allocated - before.allocated < 768 * 1024, (before, after)
    assert after.resident - before.resident < 4 * 1024 * 1024, (before, after)
