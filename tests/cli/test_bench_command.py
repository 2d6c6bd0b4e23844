"""`lapwing bench`: what it counts is what happened, against servers of other authors too."""

from __future__ import annotations

import asyncio
import json
import math
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lapwing
from lapwing import testing
from lapwing.cli import main
from lapwing.cli.benching import chart
from lapwing.cli.benching.histogram import Histogram
from lapwing.cli.benching.load import Load
from lapwing.cli.benching.pacing import Pacer
from lapwing.cli.benching.plan import Plan
from tests.peers.needed import need

ROOT = Path(__file__).parents[2]


async def echo(ws: lapwing.Connection) -> None:
    async for message in ws:
        await ws.send(message)


def bench(
    capsys: pytest.CaptureFixture[str], target: testing.Served | str, *words: str, status: int = 0
) -> dict[str, Any]:
    """Run the command against a server; returns what it writes as JSON."""
    url = target if isinstance(target, str) else target.url
    assert main(["bench", url, "--json", "-", *words]) == status
    out, err = capsys.readouterr()
    assert err == ""
    found: dict[str, Any] = json.loads(out)
    assert sum(bucket["count"] for bucket in found["histogram"]) == found["answered"]
    return found


# --- what is counted ---------------------------------------------------------------------------------------------


def test_as_fast_as_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    with testing.serve(echo) as served:
        words = ("-n", "1000", "-c", "5", "--text", "--size", "10,20", "--outstanding", "4")
        found = bench(capsys, served, *words)
        assert served.server.stats().messages_received == 1000
    assert (found["sent"], found["answered"], found["errors"], found["closed"]) == (1000, 1000, {}, {})
    assert found["connecting"]["count"] == 5
    assert found["payload_bytes_per_second"] * found["elapsed"] == pytest.approx(15_000, rel=0.01)
    assert found["rate"] * found["elapsed"] == pytest.approx(1000)
    order = ["min", "p50", "p90", "p99", "p99.9", "max"]
    assert [found["latency"][name] for name in order] == sorted(found["latency"][name] for name in order)


def test_several_processes_share_what_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with testing.serve(echo) as served:
        words = ("-n", "101", "-c", "3", "--processes", "2", "--rate", "500", "--warmup", "0.1", "--ramp-up", "0.05")
        found = bench(capsys, served, *words)
        stats = served.server.stats()
    assert found["answered"] == 101
    assert stats.opened == 3
    assert stats.messages_received >= 101 + 40, "those of the warm-up do not count"


def test_a_stalled_server_is_charged_with_every_message_that_was_due(capsys: pytest.CaptureFixture[str]) -> None:
    """Half a second at 100 messages a second: an answer that came late makes the ones after it late, too."""

    async def stall_once(ws: lapwing.Connection) -> None:
        first = await ws.receive()
        await asyncio.sleep(0.5)
        assert first is not None
        await ws.send(first)
        await echo(ws)

    with testing.serve(stall_once) as served:
        words = ("-n", "60", "-c", "1", "--rate", "100", "--outstanding", "1")
        found = bench(capsys, served, *words)
    late = sum(bucket["count"] for bucket in found["histogram"] if bucket["from"] >= 0.25)
    assert late >= 25


def test_without_echo(capsys: pytest.CaptureFixture[str]) -> None:
    got: list[str | bytes] = []

    async def sink(ws: lapwing.Connection) -> None:
        await ws.send("welcome")
        async for message in ws:
            got.append(message)

    with testing.serve(sink) as served:
        found = bench(capsys, served, "-n", "300", "-c", "3", "--no-echo", "--size", "100")
    assert found["answered"] == len(got) == 300
    assert {len(message) for message in got} == {100}
    assert found["errors"] == {}


def test_a_server_that_is_no_echo_server(capsys: pytest.CaptureFixture[str]) -> None:
    async def shout(ws: lapwing.Connection) -> None:
        async for message in ws:
            await ws.send(f"{message!r}!")

    with testing.serve(shout) as served:
        found = bench(capsys, served, "-n", "3", "-c", "1", "--patience", "0.3", status=1)
    assert found["answered"] == 0
    assert found["errors"] == {"unexpected message": 1, "unanswered": 1}


def test_connections_that_are_lost(capsys: pytest.CaptureFixture[str]) -> None:
    async def leave(ws: lapwing.Connection) -> None:
        for _ in range(5):
            message = await ws.receive()
            assert message is not None
            await ws.send(message)
        await ws.receive()
        await ws.close(4000, "enough")

    with testing.serve(leave) as served:
        found = bench(capsys, served, "-n", "100", "-c", "2", status=1)
    assert found["answered"] == 10
    assert found["closed"] == {"4000": 2}
    assert found["errors"] == {"unanswered": 2}


def test_the_table_says_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with testing.serve(echo) as served:
        assert main(["bench", served.url, "-n", "20", "-c", "2", "--size", "16-64", "--text", "-q"]) == 0
        told = " ".join(capsys.readouterr().out.split())
        assert f"2 connections to {served.url}: text messages of 16 to 64 bytes, each answered" in told
        assert "as fast as answers come, at most 1 outstanding on each" in told
        assert main(["bench", served.url, "-n", "20", "-c", "1", "--rate", "500", "--no-echo", "-q"]) == 0
        told = " ".join(capsys.readouterr().out.split())
        assert (
            f"1 connection to {served.url}: binary messages of 256 bytes, none answered, 500 messages/s in all" in told
        )


def test_a_server_that_stops_reading(capsys: pytest.CaptureFixture[str]) -> None:
    released = threading.Event()

    def hold(ws: lapwing.BlockingConnection) -> None:
        released.wait()

    with testing.serve(hold) as served:
        words = ("-d", "60", "-c", "2", "--patience", "0.3", "--size", "100000", "--outstanding", "100")
        found = bench(capsys, served, *words, status=1)
        released.set()
    assert found["answered"] == 0
    assert set(found["errors"]) <= {"unanswered", "not taken in time"}


# --- how it ends -------------------------------------------------------------------------------------------------


def test_nothing_listens(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "ws+unix:///nowhere/at/all:/", "-n", "1"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"lapwing bench: .*/nowhere/at/all.*\n", err)


def test_the_server_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    with testing.serve(protocols={"chat": echo}) as served:
        assert main(["bench", served.url, "-n", "1", "--processes", "2", "-c", "2"]) == 4
    assert "400" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["-n", "0"],
        ["-c", "0"],
        ["--processes", "0"],
        ["--outstanding", "0"],
        ["--rate", "0"],
        ["--rate", "nan"],
        ["--size", "9-1"],
        ["--size", "many"],
        ["--size", "-5"],
        ["-d", "0"],
        ["--patience", "0"],
        ["--histogram", "picture.png"],
        ["--histogram", "/no/such/place/h.svg"],
        ["--json", "/no/such/place/f.json"],
        ["-n", "1", "-d", "1"],
        ["--text", "--binary"],
    ],
)
def test_a_command_line_that_makes_no_sense(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(["bench", "ws://localhost:1", *words])
    except SystemExit as left:
        status = int(str(left.code))
    assert status == 2
    assert words[-2].lstrip("-")[0] in capsys.readouterr().err


def test_control_c_ends_it_with_the_results_so_far(tmp_path: Path) -> None:
    begun = threading.Event()

    async def watched(ws: lapwing.Connection) -> None:
        count = 0
        async for message in ws:
            await ws.send(message)
            count += 1
            if count == 50:
                begun.set()

    file = tmp_path / "found.json"
    with testing.serve(watched) as served:
        command = [sys.executable, "-m", "lapwing", "bench", served.url, "-d", "600", "--json", str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert begun.wait(60)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert out.startswith("ended early")
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["interrupted"]
    assert found["answered"] >= 50
    assert found["errors"] == {}


def test_progress_on_a_terminal(tmp_path: Path) -> None:
    import pexpect

    with testing.serve(echo) as served:
        words = ["-m", "lapwing", "bench", served.url, "-d", "1.5", "-c", "1", "--rate", "50"]
        child = pexpect.spawn(sys.executable, words, encoding="utf-8", timeout=60, dimensions=(24, 120))
        child.expect(r"measuring.*/s +p50 .* p99 ")
        child.expect(r"latency p99\.9")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0


# --- pictures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["h.svg", "h.html"])
def test_the_histogram_shows_every_message(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with testing.serve(echo) as served:
        assert main(["bench", served.url, "-n", "200", "-c", "2", "--histogram", str(tmp_path / name)]) == 0
    assert "latency p99.9" in capsys.readouterr().out
    text = (tmp_path / name).read_text(encoding="utf-8")
    picture = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    bars = picture.findall("{*}rect[@class='bar']")
    counts = [int(str(bar.findtext("{*}title")).rpartition(": ")[2]) for bar in bars]
    assert sum(counts) == 200
    heights = [float(bar.attrib["height"]) for bar in bars]
    for count, height in zip(counts, heights, strict=True):
        assert height / max(heights) == pytest.approx(count / max(counts), abs=0.01), "the axis begins at 0"
    assert "prefers-color-scheme: dark" in text


@given(st.lists(st.floats(1e-6, 1000), min_size=1, max_size=50))
def test_no_label_of_a_picture_lies_on_another(times: list[float]) -> None:
    histogram = Histogram()
    for each in times:
        histogram.add(each)
    picture = ElementTree.fromstring(chart.svg(histogram, "<title>", "&"))
    labels = [
        (float(each.attrib["y"]), float(each.attrib["x"]), each.text or "")
        for each in picture.iter()
        if each.attrib.get("class") == "marked"
    ]
    for y, x, text in labels:
        assert x >= 0
        for other_y, other_x, _ in labels:
            assert other_y != y or other_x <= x or other_x >= x + 7 * len(text)


# --- the parts ---------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10**13), min_size=1), st.lists(st.integers(0, 10**9)), st.floats(0.1, 100))
def test_percentiles_are_those_of_the_sorted_list(first: list[int], second: list[int], percent: float) -> None:
    histogram, other = Histogram(), Histogram()
    for nanoseconds in first:
        histogram.add(nanoseconds / 1e9)
    for nanoseconds in second:
        other.add(nanoseconds / 1e9)
    histogram.merge(other.take())
    assert other.count == 0
    values = sorted(min(int(value / 1e9 * 1e9), (1 << 42) - 1) / 1e9 for value in first + second)
    exact = values[max(math.ceil(len(values) * percent / 100), 1) - 1]
    assert histogram.count == len(values)
    assert exact <= histogram.percentile(percent) + 1e-9
    assert histogram.percentile(percent) <= exact * (1 + 1 / 128) + 1e-9
    assert (histogram.least, histogram.most) == (values[0], values[-1])
    assert histogram.mean == pytest.approx(sum(values) / len(values))


def test_an_empty_histogram() -> None:
    histogram = Histogram()
    assert (histogram.percentile(99), histogram.mean, histogram.least, histogram.most) == (0, 0, 0, 0)
    assert list(histogram.buckets()) == []


async def test_the_pacer_wakes_in_order_and_never_early() -> None:
    pacer = Pacer()
    woken: list[int] = []

    async def wait(number: int, due: float) -> None:
        await pacer.sleep_until(due)
        assert time.monotonic() >= due
        woken.append(number)

    have_waited = False
    while not have_waited:  # on a busy machine their time may have come before they asked for it
        woken.clear()
        begin = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in (30, 10, 20, 0):
                group.create_task(wait(number, begin + number / 1000))
            await asyncio.sleep(0)
            have_waited = time.monotonic() < begin + 0.01
    assert woken == [0, 10, 20, 30]
    last = asyncio.create_task(pacer.sleep_until(begin + 3600))
    await asyncio.sleep(0)
    pacer.close()
    await last


class HastyLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers end too early, as uvloop's do, which count whole milliseconds."""

    def call_at(self, when: float, callback: Any, *arguments: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]
        return super().call_at(when - 0.25 * (when - self.time()), callback, *arguments, context=context)


def test_the_pacer_is_never_early_without_the_kernels_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "any other")

    async def wait() -> None:
        pacer = Pacer()
        due = time.monotonic() + 0.02
        await pacer.sleep_until(due)
        assert time.monotonic() >= due
        pacer.close()

    with asyncio.Runner(loop_factory=HastyLoop) as runner:
        runner.run(wait())


def test_nothing_is_sent_before_the_beginning() -> None:
    async def go() -> None:
        plan = Plan(
            connections=0, first=0, all_connections=1, ramp_up=0.0, rate=None, sizes=(64,), is_text=True, echo=True,
            outstanding=1, warm_up=0.0, duration=None, messages=1, patience=1.0,
        )  # fmt: skip
        begin = time.monotonic() + 0.02
        await Load(plan, "ws://127.0.0.1/", {}, lambda tick: None).run(begin)
        assert time.monotonic() >= begin

    with asyncio.Runner(loop_factory=HastyLoop) as runner:
        runner.run(go())


# --- servers of other authors ------------------------------------------------------------------------------------

WS_ON_NODE = """
const { WebSocketServer } = require('./node_modules/ws');
const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: true });
server.on('connection', (ws) => ws.on('message', (data, binary) => ws.send(data, { binary })));
server.on('listening', () => console.log(server.address().port));
"""


@contextmanager
def other_server(name: str) -> Iterator[str]:
    """An echo server by another author, in a process of its own; gives its URL."""
    directory = ROOT / "bench" / "servers"
    command = [sys.executable, f"{name}_server.py"]
    if name == "ws":
        directory = ROOT / "tests" / "interop" / "node"
        command = [need("node"), "-e", WS_ON_NODE]
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"ws://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["websockets", "aiohttp", "ws"])
def test_against_servers_of_other_authors(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with other_server(name) as url:
        found = bench(capsys, url, "-n", "500", "-c", "5", "--size", "0-3000", "--text", "--outstanding", "3")
    assert (found["answered"], found["errors"], found["closed"]) == (500, {}, {})
