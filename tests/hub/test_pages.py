"""The pages of examples/hub in Chromium, with the SDK and without one: they talk, go offline, and miss nothing."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

import lapwing
from tests.docs.pages import block
from tests.hub.brokers import broker_of
from tests.peers.browser import Browser
from tests.peers.needed import NODE, need
from tests.peers.programs import EXAMPLES, TIMEOUT, Program, Start, free_port, starting, wait_for_port

SDK = NODE / "node_modules" / "centrifuge" / "dist" / "centrifuge.js"
ROOM = EXAMPLES / "hub" / "room.py"
#: Where examples/hub/room.py has page.html and sdk.html, and what its hub goes over. A page cannot tell brokers apart.
PAGES = {
    "without-an-sdk": ("", ""),
    "with-the-sdk": ("sdk", ""),
    "with-the-sdk-over-workers": ("sdk", "workers"),
    "with-the-sdk-over-redis": ("sdk", "redis"),
    "with-the-sdk-over-nats": ("sdk", "nats"),
}
#: Runs a program as it is, but in two worker processes.
IN_WORKERS = """
import functools, lapwing, runpy, sys
lapwing.run = functools.partial(lapwing.run, workers=2)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SAID = "[...document.querySelectorAll('li')].map(each => each.textContent)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def start() -> Iterator[Start]:
    with starting() as start:
        yield start


def run_room(start: Start, *broker: str) -> tuple[str, Program]:
    """Run the example; returns its host and port, and its process."""
    need("node")
    port = free_port()
    program = start("hub/room.py", port, SDK, *broker)
    wait_for_port(port, program)
    return f"127.0.0.1:{port}", program


@contextmanager
def workers_of_room() -> Iterator[str]:
    """Run the example in workers; gives its host and port."""
    port = free_port()
    program = Program([sys.executable, "-W", "error", "-c", IN_WORKERS, str(ROOM), str(port), str(SDK)])
    try:
        wait_for_port(port, program)
        yield f"127.0.0.1:{port}"
    finally:
        program.process.terminate()  # a supervisor ends its workers
        program.close()


@pytest.fixture
def room(start: Start) -> tuple[str, Program]:
    return run_room(start)


@pytest.fixture(params=PAGES)
def shown(request: pytest.FixtureRequest, browser: Browser, start: Start) -> Iterator[str]:
    """The page in the browser, connected; gives host and port."""
    page, over = PAGES[request.param]
    with ExitStack() as stack:
        if over == "workers":
            at = stack.enter_context(workers_of_room())
        else:
            at, _ = run_room(start, *([stack.enter_context(broker_of(over)).url] if over else []))
        browser.show(f"http://{at}/{page}?name=ann")
        browser.wait_for("state.textContent == 'connected as ann'")
        yield at
        browser.show("about:blank")


def say(browser: Browser, text: str) -> None:
    browser.run(f"text.value = {json.dumps(text)}; form.requestSubmit()")


def said_to(browser: Browser) -> list[str]:
    """What the page shows, without those who come and leave."""
    return [line for line in browser.run(SAID) if line.startswith(("bob:", "…"))]


@contextmanager
def away(browser: Browser) -> Iterator[None]:
    """Take the network away from the page for the block."""
    browser.network(offline=True)
    try:
        # Chromium leaves open WebSockets alone: the page without an SDK notices nothing unless its own breaks.
        browser.run("typeof ws == 'undefined' ? 0 : ws.close()")
        browser.wait_for("state.textContent.startsWith('connecting')")
        yield
    finally:
        browser.network(offline=False)


def test_a_room(browser: Browser, shown: str) -> None:
    with lapwing.hub.connect(f"ws://{shown}", token="bob") as bob, bob.subscribe("chat:lobby") as messages:
        say(browser, "hello from the page")
        message = next(messages)
        assert (message.data, message.user) == ({"name": "ann", "text": "hello from the page"}, "ann")
        messages.publish({"name": "bob", "text": "grüß dich"})
        browser.wait_for(f"{SAID}.includes('bob: grüß dich')")
        said = browser.run(SAID)
        assert said.index("ann: hello from the page") < said.index("bob: grüß dich")
        assert messages.present().users == {"ann", "bob"}


def test_offline_and_online_again(browser: Browser, shown: str) -> None:
    """What was said while the page was away is there once it is back, in order, and once."""
    with lapwing.hub.connect(f"ws://{shown}", token="bob") as bob:
        bob.publish("chat:lobby", {"name": "bob", "text": "before"})
        browser.wait_for(f"{SAID}.includes('bob: before')")
        with away(browser):
            for number in range(20):
                bob.publish("chat:lobby", {"name": "bob", "text": f"away {number}"})
        browser.wait_for("state.textContent == 'connected as ann'")
        bob.publish("chat:lobby", {"name": "bob", "text": "after"})
        browser.wait_for(f"{SAID}.includes('bob: after')")
        assert said_to(browser) == ["bob: before", *(f"bob: away {number}" for number in range(20)), "bob: after"]


def test_a_loss_is_shown(browser: Browser, shown: str) -> None:
    """Of more messages than the history keeps the page says that some are missing, and goes on."""
    with lapwing.hub.connect(f"ws://{shown}", token="bob") as bob:
        bob.publish("chat:lobby", {"name": "bob", "text": "before"})
        browser.wait_for(f"{SAID}.includes('bob: before')")
        with away(browser):
            for _ in range(350):  # Redis may keep 200
                bob.publish("chat:lobby", {"name": "bob", "text": "unseen"})
        browser.wait_for("state.textContent == 'connected as ann'")
        bob.publish("chat:lobby", {"name": "bob", "text": "after"})
        browser.wait_for(f"{SAID}.includes('bob: after')")
        assert said_to(browser) == ["bob: before", "… some messages are missing here …", "bob: after"]


def test_who_may_not_is_told(browser: Browser, room: tuple[str, Program]) -> None:
    browser.show(f"http://{room[0]}/?name=")
    browser.run("ws.onmessage = null")
    with lapwing.connect(f"ws://{room[0]}") as ws:
        ws.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"chat:lobby"}}')
        ws.receive()
        assert json.loads(str(ws.receive())) == {
            "id": 2,
            "error": {"code": 103, "message": "say who you are first"},
        }
    browser.show("about:blank")


def test_the_pages_are_short() -> None:
    assert len((EXAMPLES / "hub" / "sdk.html").read_text(encoding="utf-8").splitlines()) <= 40
    script = (EXAMPLES / "hub" / "page.html").read_text(encoding="utf-8")
    script = script.partition("<script>\n")[2].partition("</script>")[0]
    assert len(script.splitlines()) <= 48


def test_the_command_as_the_page_shows_it(room: tuple[str, Program]) -> None:
    follow, *printed = block("hub-follow").splitlines()
    publish = block("hub-publish").strip()

    def words(line: str) -> list[str]:
        assert line.startswith("$ lapwing ")
        line = line.removeprefix("$ lapwing ").replace("localhost:8080", room[0])
        return [sys.executable, "-m", "lapwing", *shlex.split(line)]

    following = subprocess.Popen([*words(follow), "-n", "1"], stdout=subprocess.PIPE, text=True)
    with lapwing.hub.connect(f"ws://{room[0]}", token="eve") as eve, eve.subscribe("chat:lobby") as messages:
        while "ann" not in messages.present().users:
            time.sleep(0.02)
        subprocess.run(words(publish), check=True, timeout=TIMEOUT)
    output, _ = following.communicate(timeout=TIMEOUT)
    assert output.splitlines() == printed


def test_clients_in_python(start: Start, room: tuple[str, Program]) -> None:
    program = start("hub/client.py", f"ws://{room[0]}", "eve")
    assert program.line() == "rooms: chat:lobby, chat:kitchen"
    assert program.line() == "here: eve"
    assert program.line() == "eve: hello from Python"
    blocking = start("hub/blocking_client.py", f"ws://{room[0]}", "zoe")
    assert blocking.line() == "zoe: hello from a thread"
    assert blocking.wait() == 0
    assert program.line() == "zoe: hello from a thread"
