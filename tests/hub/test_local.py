"""Workers share a hub: its process behind a unix socket, what it says to them, and what happens to those that die."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import stat
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lapwing
from lapwing.hub import Engine, Entry, History, Lost, MemoryEngine, PublishError, Stretch
from lapwing.hub.engines import frames, local
from lapwing.hub.engines.frames import Kind
from lapwing.hub.engines.local import LocalEngine
from lapwing.hub.engines.process import HubProcess, Place
from lapwing.hub.hub import Hub
from lapwing.testing.hub import RULES, Bench, Ear
from tests.faces.programs import program
from tests.hub.programs import needs_proc, serving
from tests.hub.rooms import Client, anybody

KEPT = History(100, 300.0)


# --- frames ----------------------------------------------------------------------------------------------------------

names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60)
positions = st.integers(0, 2**53 - 1)


@given(st.data(), names, st.binary(max_size=300), positions, positions, st.integers(1, 50))
def test_frames_come_back_in_any_pieces(
    data: st.DataObject, topic: str, payload: bytes, position: int, previous: int, step: int
) -> None:
    number = data.draw(st.integers(0, 2**32 - 1))
    entries = [Entry(position, previous, payload)] * data.draw(st.integers(0, 3))
    stream = b"".join(
        (
            frames.hello(),
            frames.publish(number, topic, payload, KEPT, "key"),
            frames.publish(number, topic, payload, None, None),
            frames.done(number, position),
            frames.failed(number, "why", None),
            frames.call(number, "read", topic, None, 5),
            frames.answer(number, [position]),
            frames.message(topic, payload, position, previous),
            frames.stretch(number, Stretch(entries, position, is_known=True)),
            frames.tell("leave", topic, "c"),
            frames.event("resumed"),
            frames.ping(number),
            frames.pong(number),
        )
    )
    reader = frames.Reader()
    got = [each for begin in range(0, len(stream), step) for each in reader.feed(stream[begin : begin + step])]
    assert got == [
        (Kind.HELLO, frames.VERSION),
        (Kind.PUBLISH, (number, topic, payload, KEPT, "key")),
        (Kind.PUBLISH, (number, topic, payload, None, None)),
        (Kind.DONE, (number, position)),
        (Kind.FAILED, (number, ["why", None])),
        (Kind.CALL, (number, ["read", topic, None, 5])),
        (Kind.ANSWER, (number, [position])),
        (Kind.MESSAGE, (topic, payload, position, previous)),
        (Kind.STRETCH, (number, Stretch(entries, position, is_known=True))),
        (Kind.TELL, ["leave", topic, "c"]),
        (Kind.EVENT, ["resumed"]),
        (Kind.PING, number),
        (Kind.PONG, number),
    ]


@given(st.binary(max_size=100))
def test_what_is_no_frame_is_refused_and_nothing_else_happens(data: bytes) -> None:
    try:
        list(frames.Reader().feed(data))
    except ValueError:
        return


@pytest.mark.parametrize("length", [0, 2**31, 2**32 - 1])
def test_a_length_from_elsewhere_is_not_trusted(length: int) -> None:
    with pytest.raises(ValueError, match="a frame of"):
        list(frames.Reader().feed(length.to_bytes(4, "big") + b"\x01"))


# --- the rules of engines --------------------------------------------------------------------------------------------


@asynccontextmanager
async def process(engine: MemoryEngine | None = None) -> AsyncIterator[tuple[HubProcess, str]]:
    """The hub's process, in this one."""
    place, stop = Place(), asyncio.Event()
    hub_process = HubProcess(engine or MemoryEngine())
    serving = asyncio.ensure_future(hub_process.serve(place.listener, stop))
    try:
        yield hub_process, place.path
    finally:
        stop.set()
        for worker in list(hub_process.workers):
            worker.abort()
        await serving
        place.close()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
async def test_the_engine_of_workers_keeps_the_rule(rule: Callable[[Bench], Awaitable[None]]) -> None:
    async with process() as (hub_process, path):

        async def forget(_: Engine, topic: str) -> None:
            hub_process.engine.forget(topic)

        await rule(Bench(lambda: LocalEngine(path), forget))


async def until(condition: Any) -> None:
    """Let the loop run until something holds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def two_hubs(path: str, **options: Any) -> tuple[Hub, Hub]:
    hubs = Hub(LocalEngine(path)), Hub(LocalEngine(path))
    for hub in hubs:
        hub.topic("t:*", **options)(anybody)
    return hubs


async def test_all_workers_see_the_same_messages_in_the_same_order() -> None:
    async with process() as (_, path):
        one, two = await two_hubs(path, history=500)
        async with one, two, one.subscribe("t:1") as here, two.subscribe("t:1") as there:
            await asyncio.gather(
                *(hub.publish("t:1", [name, n]) for n in range(100) for name, hub in (("a", one), ("b", two)))
            )
            got = [[(await anext(messages)).position for _ in range(200)] for messages in (here, there)]
            assert got[0] == got[1] == sorted(set(got[0]))


async def test_a_link_that_goes_down_is_repaired_from_history_and_told_without_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "lapwing.hub")
    async with process() as (hub_process, path):
        hub, other = await two_hubs(path, history=500)
        for each in (hub, other):
            each.topic("live")(anybody)
        async with hub, other, hub.subscribe("t:1") as messages, hub.subscribe("live") as live:
            await other.publish("t:1", 0)
            assert (await anext(messages)).data == 0
            victim = next(worker for worker in hub_process.workers if "t:1" in worker.topics)
            victim.transport.abort()
            for number in range(1, 50):
                await other.publish("t:1", number)
            assert [(await anext(messages)).data for _ in range(49)] == list(range(1, 50))
            with pytest.raises(Lost) as caught:
                await anext(live)
            assert caught.value.why == "interrupted"
            await other.publish("live", "again")
            assert (await anext(live)).data == "again"
            assert hub.health.is_up
    assert [(level, text.partition(": ")[0]) for _, level, text in caplog.record_tuples] == [
        (logging.WARNING, "the link to the process of the hub is down"),
        (logging.INFO, "the link to the process of the hub is up again"),
    ]


FREEZING = """
    import asyncio, signal
    from lapwing.hub import MemoryEngine
    from lapwing.hub.engines.process import HubProcess, Place
    async def main():
        place, stop = Place(), asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        print(place.path, flush=True)
        try:
            await HubProcess(MemoryEngine()).serve(place.listener, stop)
        finally:
            place.close()
    asyncio.run(main())
"""


def freeze(running: subprocess.Popen[str]) -> None:
    running.send_signal(signal.SIGSTOP)
    os.waitpid(running.pid, os.WUNTRACED)  # until it has stopped


async def test_a_hub_that_is_frozen_is_red_in_time_and_missed_messages_are_read_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel takes all that is sent to it: only the probe notices."""
    monkeypatch.setattr(local, "_PROBE_EVERY", 0.1)
    monkeypatch.setattr(local, "_PROBE_PATIENCE", 1.0)
    with program(FREEZING) as running:
        assert running.stdout is not None
        hub, other = await two_hubs(running.stdout.readline().strip(), history=500, presence=True)
        for each in (hub, other):
            each.topic("live")(anybody)
        async with hub, other, hub.subscribe("t:1") as messages, hub.subscribe("live") as live:
            (await hub._gate.enter(Client("alice"), "t:1")).start()
            await other.publish("t:1", 0)
            assert (await anext(messages)).data == 0
            await until(lambda: hub.health.probed_at)
            freeze(running)
            began = asyncio.get_running_loop().time()
            publishing = asyncio.ensure_future(other.publish("t:1", 1))
            reading = asyncio.ensure_future(hub._core.engine.last(["t:1"]))
            await until(lambda: not hub.health.is_up and not other.health.is_up)
            assert asyncio.get_running_loop().time() - began < 10
            assert "a probe did not come back" in hub.health.why
            with pytest.raises(PublishError) as caught:
                await publishing
            assert caught.value.stored is None
            with pytest.raises(ConnectionError):
                await reading
            running.send_signal(signal.SIGCONT)
            await until(lambda: hub.health.is_up and other.health.is_up)
            await other.publish("t:1", 2)
            assert [(await anext(messages)).data for _ in range(2)] == [1, 2]  # what was sent to it arrived
            assert hub.stats().losses == 1
            with pytest.raises(Lost, match="interrupted"):
                await anext(live)
            await other.publish("live", "again")
            assert (await anext(live)).data == "again"
            assert (await other.present("t:1")).count == 1
        running.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(running.wait, 30) == 0


async def test_a_publish_in_flight_is_not_known_to_be_stored_and_one_without_a_link_is_known_not_to_be() -> None:
    async with process() as (hub_process, path):
        hub = Hub(LocalEngine(path, timeout=0.2), timeout=0.2)
        hub.topic("t", history=5)(anybody)
        async with hub:
            publishing = asyncio.ensure_future(hub.publish("t", 1))
            await asyncio.sleep(0)
            for worker in list(hub_process.workers):
                worker.transport.abort()
            with pytest.raises(PublishError) as caught:
                await publishing
            assert caught.value.stored is None
            await hub.publish("t", 2)  # the link is back
            Path(path).unlink()
            for worker in list(hub_process.workers):
                worker.transport.abort()
            await asyncio.sleep(0)
            with pytest.raises(PublishError):
                await hub.publish("t", 3)
                await hub.publish("t", 4)
            assert not hub.health.is_up
            assert hub.health.why


async def test_a_worker_that_is_too_slow_is_cut_off_from_messages_and_reads_them_later() -> None:
    async with process() as (hub_process, path):
        hub, other = await two_hubs(path, history=5000)
        async with hub, other, hub.subscribe("t:1") as messages:
            link = hub._core.engine._link  # type: ignore[attr-defined]
            link.transport.pause_reading()
            for number in range(1500):
                await other.publish("t:1", [number, "x" * 10_000])
            slow = next(worker for worker in hub_process.workers if "t:1" in worker.topics)
            assert slow._is_cut
            assert slow.transport.get_write_buffer_size() < 10 * 1024 * 1024
            link.transport.resume_reading()
            assert [(await anext(messages)).data[0] for _ in range(1500)] == list(range(1500))
            assert hub.stats().repairs > 0


async def test_presence_is_that_of_all_workers_and_ends_with_a_worker_at_once() -> None:
    async with process() as (hub_process, path):
        one, two, watching = LocalEngine(path), LocalEngine(path), LocalEngine(path)
        ear = Ear()
        await watching.start(ear)
        await watching.listen(["t"])
        for engine, client in ((one, "a"), (two, "b")):
            await engine.start(Ear())
            await engine.enter("t", client, b"entry")
        assert sorted((await watching.present("t", 10))[0]) == ["a", "b"]
        worker = next(each for each in hub_process.workers if ("t", "a") in each.clients)
        await one.stop()
        await ear.until(lambda: ("left", "t", "a", b"entry") in ear.events)
        assert worker not in hub_process.workers
        next(iter(each for each in hub_process.workers if each.clients)).transport.abort()
        await ear.until(
            lambda: [event[0] for event in ear.events].count("joined") == 3
        )  # it is back, and says so again
        assert sorted((await watching.present("t", 10))[0]) == ["b"]
        for engine in (two, watching):
            await engine.stop()


async def test_a_client_that_a_later_link_has_said_to_be_there_stays_when_the_earlier_one_ends() -> None:
    async with process() as (hub_process, path):
        earlier, later = LocalEngine(path), LocalEngine(path)
        for engine in (earlier, later):
            await engine.start(Ear())
            await engine.enter("t", "a", b"entry")
        await earlier.stop()
        await until(lambda: len(hub_process.workers) == 1)
        assert (await later.present("t", 10))[0] == {"a": b"entry"}
        await later.stop()
        await until(lambda: not hub_process.workers)
        assert hub_process.engine._present == {}


async def test_a_revocation_ends_subscriptions_in_all_workers_and_one_that_may_be_lost_ends_all() -> None:
    async with process() as (hub_process, path):
        one, two = await two_hubs(path)
        async with one, two:
            here, there, bob = Client("alice"), Client("alice"), Client("bob")
            for hub, client in ((one, here), (two, there), (two, bob)):
                (await hub._gate.enter(client, "t:1")).start()
            await one.revoke("t:1", user="alice")
            assert here.removals == [(2000, "permission revoked")]
            await until(lambda: there.removals)
            assert there.removals == here.removals
            assert not bob.removals
            hub_process.engine.forget("\x01control")
            await one.revoke("t:1", user="nobody")
            await until(lambda: bob.removals)
            assert bob.removals == [(2502, "subscribe again")]


async def test_the_socket_is_this_users_alone() -> None:
    place = Place()
    assert stat.S_IMODE(Path(place.path).stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(place.path).parent.stat().st_mode) == 0o700
    place.close()
    assert not Path(place.path).parent.exists()


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        frames.welcome(),
        frames.hello()[:-1] + b"\x63",
        frames.hello() + b"\x00\x00\x00\x02\x63\x00",
        frames.hello() + frames.call(1, "__class__"),
        frames.hello() + frames.call(1, "read"),
        frames.hello() + frames.done(1, 1),
        frames.hello() + frames.pong(1),
    ],
)
async def test_a_worker_that_makes_no_sense_is_cut_off_and_the_others_go_on(
    said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with process() as (hub_process, path):
        engine = LocalEngine(path)
        await engine.start(Ear())
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(said)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await reader.readexactly(10_000)
        writer.close()
        assert await engine.publish("t", b"x", history=KEPT) > 0
        assert len(hub_process.workers) == 1
        await engine.stop()
    assert "sent invalid data" in caplog.text


async def test_without_a_process_the_hub_does_not_start() -> None:
    hub = Hub(LocalEngine("/nonexistent/hub", timeout=0.05))
    with pytest.raises(ConnectionError, match="does not answer: No such file"):
        await hub.__aenter__()
    with pytest.raises(RuntimeError, match="not running"):
        hub.publish_soon("t", 1)


# --- whole programs --------------------------------------------------------------------------------------------------


@needs_proc
def test_clients_of_different_workers_meet_in_a_room_with_history_and_presence() -> None:
    with serving() as program:
        one, two = program.meet().values()
        for ws, other in ((one, two), (two, one)):
            ws.send("hello")
            assert ws.receive() == other.receive() == '"hello"'
        one.send("who")
        assert one.receive_json() >= 2
        one.send("position")
        position = one.receive_json()
        two.send("missed")
        assert one.receive() == '"missed"'
        with program.connect(position) as three:
            came = {three.receive(), three.receive()}
            assert '"missed"' in came
        for ws in (one, two):
            ws.close()


@needs_proc
def test_a_restart_of_the_workers_leaves_the_hub_as_it_is() -> None:
    with serving() as program:
        with program.connect() as ws:
            ws.receive_json()
            ws.send("before")
            assert ws.receive() == '"before"'
            ws.send("position")
            position = ws.receive_json()
        helper = program.helper()
        program.process.send_signal(signal.SIGHUP)
        for _ in range(3):
            program.until("replaces worker")
        assert program.helper() == helper
        answers: list[Any] = []
        while not answers:
            with suppress(lapwing.WebSocketError, ConnectionError), program.connect(position) as ws:  # a worker may end
                answers.append(ws.receive_json())
        assert answers[0]["recovered"] is True
