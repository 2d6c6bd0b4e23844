"""Leaks: millions of operations in a process of their own, in which memory and reference counts stay as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Lines that the checks below share: what is measured, and what may be used.
PRELUDE = '''
import gc, sys
from lapwing.protocol import (
    Endpoint, Role, ConnectionClosed, Violation, apply_mask, build_frame, MaskingKeys, TEXT, Closed,
)

KEY = b"abcd"
CLIENT, SERVER = Role.CLIENT, Role.SERVER

def frame(role, opcode, payload=b"", fin=True):
    return build_frame(opcode, payload, fin=fin, key=KEY if role is SERVER else None)

def resident():
    """Bytes of memory that this process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def shared():
    """Reference counts of objects that all connections share, and the number of objects."""
    gc.collect()
    counts = [sys.getrefcount(each) for each in (
        b"", "", b"a", "a", None, True, False, 1000, CLIENT, SERVER, *Violation, Closed, TEXT, *range(-1, 20),
    )]
    return counts, len(gc.get_objects())

def measure(step, times, slack=1 << 20):
    """Do `step` so many times: after a warm-up of a tenth, neither memory nor any count may grow."""
    for _ in range(times // 10):
        step()
    counts, objects = shared()
    before = resident()
    for _ in range(times):
        step()
    grown = resident() - before
    later, more = shared()
    # A loop of the interpreter's own may hold one more of a small number; a leak would hold one per time.
    assert all(abs(a - b) < times // 100 for a, b in zip(counts, later)), list(zip(counts, later))
    assert abs(more - objects) < times // 100, (objects, more)
    assert grown < slack, f"{grown} bytes more after {times} times"
'''

CHECKS = {
    "messages": """
ends = {role: Endpoint(role) for role in (CLIENT, SERVER)}
data = {role: frame(role, 1, b"") + frame(role, 2, b"") + frame(role, 1, b"a") + frame(role, 2, b"a")
        + frame(role, 1, "é€".encode()) + frame(role, 2, bytes(300)) + frame(role, 1, b"x", fin=False)
        + frame(role, 9, b"ping") + frame(role, 0, b"", fin=False) + frame(role, 0, b"y") for role in ends}
def step():
    for role, end in ends.items():
        end.receive_data(data[role], 0.0)
        end.receive_data(data[role][:33], 0.0)
        end.receive_data(data[role][33:], 0.0)
        while end.next_message() is not None:
            pass
        end.data_to_send()
measure(step, 100_000)
""",
    "sending": """
ends = {role: Endpoint(role) for role in (CLIENT, SERVER)}
large, text, view = bytes(20_000), "é" * 100, memoryview(bytearray(1000))
def step():
    for end in ends.values():
        for message in (b"", "", b"a", text, large, view, large):
            end.send(message)
        end.send_fragment(large, fin=False); end.send_fragment(b"", fin=True)
        end.data_to_send()
before = [sys.getrefcount(each) for each in (large, text, view)]
measure(step, 60_000)
assert before == [sys.getrefcount(each) for each in (large, text, view)]
""",
    "connections": """
states = [lambda role: b"", lambda role: frame(role, 2, bytes(20))[:9], lambda role: frame(role, 1, b"a", fin=False),
          lambda role: frame(role, 9, b"x" * 125)[:20], lambda role: frame(role, 1, b"waits") * 20,
          lambda role: frame(role, 8, b"\\x03\\xe8bye"), lambda role: frame(role, 3),
          lambda role: frame(role, 1, b"\\xff"),
          lambda role: frame(role, 8, b"x"), lambda role: frame(role, 2, bytes(2000)),
          lambda role: frame(role, 1, b"\\xe2", fin=False),
          lambda role: b"\\x82"]
cases = [(role, make(role)) for role in (CLIENT, SERVER) for make in states]
large = bytes(20_000)
def step():
    for role, data in cases:
        end = Endpoint(role, max_message_size=1000, max_buffered=100)
        end.ping(now=0.0); end.send(large)
        end.receive_data(data, 0.0)
        for act in (end.send_fragment, end.ping):
            try:
                act(b"x", fin=False) if act == end.send_fragment else act(now=0.0)
            except ConnectionClosed:
                pass
        end.next_message()
        end.close(1000, "bye", now=0.0)
        end.receive_data(data, 0.0)
measure(step, 12_000)
assert sys.getrefcount(large) == 2, sys.getrefcount(large)
""",
    "refused arguments": """
end = Endpoint(SERVER)
part = memoryview(b"a-b-c")[::2]
def refused(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except (TypeError, ValueError, BufferError, RuntimeError):
        return
    raise AssertionError(call)
def step():
    refused(end.send, 5); refused(end.send, None); refused(end.send, part); refused(end.send, "\\ud800")
    refused(end.send, b"\\xff", TEXT); refused(end.send, b"x", 9)
    refused(end.send_fragment, b"\\xff", fin=True, opcode=TEXT)
    refused(end.ping, 5, now=0.0); refused(end.ping, bytes(126), now=0.0)
    refused(end.close, 1005, now=0.0); refused(end.close, 1000, "x" * 124, now=0.0)
    refused(end.receive_data, 5, 0.0); refused(Endpoint, 5); refused(Endpoint, SERVER, max_buffered=0)
    refused(apply_mask, b"x", b"y"); refused(build_frame, 99); refused(MaskingKeys(lambda size: b"").next)
measure(step, 60_000)
assert end.held == 0
""",
    "lagging application": """
data = {role: (frame(role, 1, b"x" * 90) + frame(role, 9, b"p")) * 50 for role in (CLIENT, SERVER)}
def step():
    for role in data:
        end = Endpoint(role, max_buffered=500)
        end.receive_data(data[role], 0.0)
        for _ in range(7):
            end.next_message()
        end.data_to_send()
        end.receive_eof()
measure(step, 30_000)
""",
}


def environment() -> dict[str, str]:
    """Under AddressSanitizer, memory that was freed is kept back for a while: here, little of it."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if "ASAN_OPTIONS" in variables:
        variables["ASAN_OPTIONS"] += ":quarantine_size_mb=1:thread_local_quarantine_size_kb=64"
    return variables


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="/proc is missing")
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_nothing_leaks(check: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PRELUDE + check],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr[-3000:]) == (0, "")
