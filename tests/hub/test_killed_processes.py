"""Real processes that are killed: nodes, workers, the process of a hub; what clients and publishers learn of it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from contextlib import ExitStack

import pytest

import lapwing
from lapwing.hub.hub import Hub
from tests.faces.programs import program
from tests.hub.brokers import broker_of, declare, until
from tests.hub.programs import NODE, needs_proc, serving
from tests.hub.rooms import Client
from tests.hub.talking import CODECS, talking

JSON = CODECS["json"]

# --- nodes on a broker -----------------------------------------------------------------------------------------------


async def told_of_the_death_of_a_node(kind: str) -> float:
    """Kill a node with two clients in a topic; returns how long it takes until two other nodes know."""
    loop = asyncio.get_running_loop()
    with broker_of(kind) as broker, program(NODE, broker.url) as node:
        assert node.stdout is not None
        url = f"ws://127.0.0.1:{int(await asyncio.to_thread(node.stdout.readline))}"
        async with (
            declare(Hub(broker.url)) as one,
            declare(Hub(broker.url)) as two,
            talking(url, JSON, "ann") as ann,
            talking(url, JSON, "bob") as bob,
        ):
            watchers = {hub: Client("watcher") for hub in (one, two)}
            for hub, watcher in watchers.items():
                await watcher.enter(hub, "kept:1")
            for client in (ann, bob):
                await client.subscribe("kept:1")
            gone = {("left", "ann"), ("left", "bob")}
            await until(lambda: all(("joined", "bob") in watcher.told for watcher in watchers.values()))
            assert (await one.present("kept:1")).count == 4
            node.kill()
            began = loop.time()
            await until(lambda: all(gone <= set(watcher.told) for watcher in watchers.values()))
            elapsed = loop.time() - began
            for hub, watcher in watchers.items():
                present = await hub.present("kept:1")
                assert [member.user for member in present.members] == ["watcher", "watcher"]
                assert [watcher.told.count(each) for each in gone] == [1, 1]
    return elapsed


async def test_presence_after_the_death_of_a_process() -> None:
    """With the times as they are, which is why both brokers are tested at once; of workers, see below."""
    elapsed = await asyncio.gather(*(told_of_the_death_of_a_node(kind) for kind in ("redis", "nats")))
    assert max(elapsed) < 15


@pytest.mark.parametrize("kind", ["redis", "nats"])
async def test_clients_of_a_killed_node_come_back_to_another_one(kind: str) -> None:
    """Those of a topic with history miss nothing; the others are told."""
    with broker_of(kind) as broker, program(NODE, broker.url) as node, program(NODE, broker.url) as other:
        assert node.stdout is not None
        assert other.stdout is not None
        ports = [int(await asyncio.to_thread(each.stdout.readline)) for each in (node, other)]  # type: ignore[union-attr]
        async with declare(Hub(broker.url)) as hub:
            async with talking(f"ws://127.0.0.1:{ports[0]}", JSON, "ann") as ann:
                kept, live = [await ann.subscribe(topic, recoverable=True) for topic in ("kept:1", "live:1")]
                position = await hub.publish("kept:1", "before")
                assert (await ann.push()).event.data == b'"before"'
                node.kill()
                await ann.closed()
            for topic in ("kept:1", "live:1"):
                await hub.publish(topic, "missed")
            async with talking(f"ws://127.0.0.1:{ports[1]}", JSON, "ann") as ann:
                kept = await ann.subscribe("kept:1", recover=True, offset=int(position), epoch=kept.epoch)
                assert [each.data for each in kept.publications] == [b'"missed"']
                assert (kept.was_recovering, kept.recovered) == (True, True)
                live = await ann.subscribe("live:1", recover=True, offset=live.offset, epoch=live.epoch)
                assert (live.was_recovering, live.recovered) == (True, False)


# --- workers ---------------------------------------------------------------------------------------------------------


@needs_proc
def test_a_worker_that_dies_takes_its_clients_presence_along_and_nothing_else() -> None:
    with serving() as program:
        one, two = program.meet().values()
        one.send("who")
        count = one.receive_json()
        two.send("die")
        assert two.receive() is None
        program.until("ended with exit status 3")
        while True:  # the process of the hub learns it from the kernel, at its own time
            one.send("who")
            if one.receive_json() < count:
                break
        one.send("on")
        assert one.receive() == '"on"'
        one.close()


@needs_proc
def test_clients_of_a_killed_worker_come_back_to_another_one_and_miss_nothing() -> None:
    """One client is in a plain room, and sends its last position; the other one speaks the protocol, and reconnects."""
    with serving() as program, ExitStack() as stack:
        client = stack.enter_context(lapwing.hub.connect(program.url, protobuf=True, timeout=30))
        messages = stack.enter_context(client.subscribe("room"))
        victim = client.call("pid")
        rooms = program.meet()
        one = next(ws for pid, ws in rooms.items() if pid != victim)
        one.send("before")
        assert next(messages).data == "before"
        one.send("position")
        position = next(said for said in iter(one.receive_json, None) if isinstance(said, int))
        os.kill(victim, signal.SIGKILL)
        program.until(f"worker {victim} ended with signal SIGKILL")
        one.send("missed")
        assert next(messages).data == "missed"
        assert client.call("pid") != victim
        with program.connect(position) as back:
            came = [back.receive_json(), back.receive_json()]
            assert "missed" in came
            welcome = next(each for each in came if each != "missed")
            assert welcome["recovered"] is True
            assert welcome["pid"] != victim
        for ws in rooms.values():
            ws.close()


# --- the process of the hub ------------------------------------------------------------------------------------------


@needs_proc
def test_when_the_process_of_the_hub_dies_another_one_begins_and_losses_are_told() -> None:
    with serving() as program:
        one, two = program.meet().values()
        one.send("before")
        assert one.receive() == two.receive() == '"before"'
        one.send("position")
        position = one.receive_json()
        os.kill(program.helper(), signal.SIGKILL)
        program.until("the link to the process of the hub is down")
        # Both are told, and a plain WebSocket is told by 1013.
        for ws in (one, two):
            assert ws.receive() is None
            assert ws.closed.code == 1013
        with program.connect(position) as ws:
            assert ws.receive_json()["recovered"] is False
            ws.send("after")
            assert ws.receive() == '"after"'


@needs_proc
def test_publishers_in_flight_are_told_when_the_process_of_the_hub_dies_and_the_next_one_begins_soon() -> None:
    with serving() as program, program.connect() as ws:
        ws.receive_json()
        helper = program.helper()
        os.kill(helper, signal.SIGSTOP)
        ws.send("doubt")
        program.until("publishing")
        os.kill(helper, signal.SIGKILL)
        stored, ended, _ = program.all_of(
            "stored: ", f"worker {helper} ended with signal SIGKILL", "the link to the process of the hub is up again"
        )
        assert stored == "stored: None\n"
        again = re.search(r"another one starts in ([0-9.]+) s", ended)
        assert again is not None
        assert float(again[1]) <= 1
