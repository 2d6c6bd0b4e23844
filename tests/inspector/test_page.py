"""The live page in a browser: what it shows, what can be done from it, by mouse, by keyboard and on a phone."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import lapwing
from tests.conftest import Runtime
from tests.faces.programs import program
from tests.inspector.test_live import TOKEN
from tests.inspector.test_workers import PROGRAM
from tests.peers.browser import Browser
from tests.peers.programs import Program, free_port, wait_for_port
from tests.peers.servers import TIMEOUT, ServerThread, echo

EXAMPLE = Path(__file__).parents[2] / "examples" / "live_page.py"
RUNTIME = Runtime("asyncio", asyncio.new_event_loop, {})
#: What a peer may send to take over the page, if it let it.
MARKUP = "<img src=x onerror='window.taken = true'><script>window.taken = true</script>"
#: Collects what the page must not have: errors, and loads that its policy forbids.
WATCH = """
    window.wrong = [];
    addEventListener('error', event => wrong.push(event.message || 'a file is missing'), true);
    addEventListener('unhandledrejection', event => wrong.push(String(event.reason)));
    addEventListener('securitypolicyviolation', event => wrong.push(event.violatedDirective + ' ' + event.blockedURI));
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        browser.ask("Page.enable")
        browser.ask("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Browser]:
    """The browser, as it is when it is new; in the end nothing may have gone wrong in it."""
    browser.look_like(width=1280, height=800)
    yield browser
    assert browser.run("window.wrong") == []
    assert browser.run("window.taken") is None
    browser.run("localStorage.clear(); sessionStorage.clear()")
    browser.ask("Page.navigate", url="about:blank")


@contextmanager
def served(**options: Any) -> Iterator[ServerThread]:
    defaults: dict[str, Any] = {"protocols": {"chat": echo}, "default": echo, "inspector": True}
    with ServerThread(RUNTIME, **defaults | options) as server:
        yield server


@contextmanager
def answering(ws: lapwing.Client) -> Iterator[None]:
    """Have a blocking client, which does so while it waits, answer pings."""

    def read() -> None:
        for _ in ws:
            pass

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        ws.close()
        thread.join()


def _open(page: Browser, server: ServerThread, *, with_token: bool = True) -> None:
    address = server.server.inspector_url
    assert address is not None
    page.show(address if with_token else address.partition("#")[0])


def _live(page: Browser) -> None:
    page.wait_for("document.querySelector('#state')?.dataset.state == 'live'")


def _choose(page: Browser, ws: lapwing.Client) -> None:
    """Click on a connection's row, once it is there."""
    assert ws.local_address is not None
    rows = "[...document.querySelectorAll('#rows .row:not([hidden])')]"
    row = f"{rows}.find(row => row.innerText.includes(':{ws.local_address[1]}'))"
    page.wait_for(row)
    page.run(row + ".click()")
    page.wait_for("!document.querySelector('#panel').hidden && document.querySelector('#details dd')")


def _frames(page: Browser) -> list[list[str]]:
    """What is shown of the frames that are no pings: direction, and payload."""
    shown: list[list[str]] = page.run(
        "[...document.querySelectorAll('#frames li:not(.control)')]"
        ".map(item => [item.className, item.querySelector('.payload').textContent])"
    )
    return shown


def test_numbers_move(page: Browser) -> None:
    with served() as server, lapwing.connect(server.url, "chat", timeout=TIMEOUT) as ws:
        _open(page, server)
        _live(page)
        page.wait_for("document.querySelector('#rows .row:not([hidden]) .subprotocol')?.textContent == 'chat'")
        stop = threading.Event()

        def talk() -> None:
            while not stop.is_set():
                ws.send("a" * 200)
                ws.receive()
                stop.wait(0.002)

        talking = threading.Thread(target=talk)
        talking.start()
        try:
            rate = "parseFloat(document.querySelector('#rows .row:not([hidden]) .in').textContent)"
            page.wait_for(f"{rate} > 10")
            page.wait_for("parseFloat(document.querySelector('#rate-in').textContent) > 10")
            page.wait_for("document.querySelector('#rows .rtt')?.textContent?.includes('s')")
            drawn = page.run("document.querySelector('#rates').toDataURL()")
            page.wait_for(f"document.querySelector('#rates').toDataURL() != {json.dumps(drawn)}")
        finally:
            stop.set()
            talking.join()
        page.wait_for(f"{rate} < 10")
        ws.close()
        page.wait_for(
            "document.querySelector('#nothing').offsetParent && document.querySelector('#count').textContent == '0'"
        )


def test_frames_sending_and_closing(page: Browser) -> None:
    with served() as server, lapwing.connect(server.url, timeout=TIMEOUT) as ws:
        _open(page, server)
        _choose(page, ws)
        ws.send(MARKUP)
        ws.send(b"\x00\xff")
        page.wait_for("document.querySelectorAll('#frames li:not(.control)').length == 4")
        for direction in ("in", "out"):
            assert [text for way, text in _frames(page) if way == direction] == [MARKUP, "00 ff"]
        assert page.run("document.querySelectorAll('#frames img, #frames script').length") == 0
        ws.receive()
        ws.receive()

        page.run("document.querySelector('#message').focus()")
        page.write("héllo")
        page.press("Enter", control=True)
        assert ws.receive() == "héllo"
        page.wait_for("document.querySelector('#outcome').textContent == 'Sent 6\\u202fB'")
        assert page.run("document.querySelector('#message').value") == ""
        page.run("document.querySelector('#kind').value = 'hex'")
        page.write("00 0a ff")
        page.run("document.querySelector('#send button').click()")
        assert ws.receive() == b"\x00\x0a\xff"
        page.wait_for("document.querySelector('#outcome').textContent == 'Sent 3\\u202fB'")
        page.write("0")
        page.run("document.querySelector('#send button').click()")
        page.wait_for("document.querySelector('#outcome.failed')?.textContent?.includes('in hex')")
        assert page.run("document.querySelector('#message').value") == "0", "it is there to be corrected"

        page.run("document.querySelector('#code').value = 1006")
        page.run("document.querySelector('#close button').click()")
        page.wait_for("document.querySelector('#outcome.failed')?.textContent?.includes('1006')")
        page.run("document.querySelector('#code').value = 4001; document.querySelector('#reason').value = 'enough'")
        page.run("document.querySelector('#close button').click()")
        assert ws.receive() is None
        assert ws.closed == (True, 4001, "enough")
        page.wait_for("document.querySelector('#panel-state').textContent.startsWith('Closed after')")
        assert page.run("document.querySelector('#send button').disabled")
        # The frames come at intervals of their own.
        last = "[...document.querySelectorAll('#frames li:not(.control) .payload')].at(-1)"
        page.wait_for(f"{last}?.textContent == '4001 enough'")


def test_holding_and_clearing_the_frames(page: Browser) -> None:
    with served() as server, lapwing.connect(server.url, timeout=TIMEOUT) as ws:
        _open(page, server)
        _choose(page, ws)
        page.wait_for("document.querySelectorAll('#frames li.control').length >= 2")
        assert page.run("document.querySelector('#frames li.control').offsetParent") is None
        assert page.run("document.querySelector('#tail-count').textContent") == ""  # what is not shown is not counted
        page.run("document.querySelector('#tail-control').click()")
        page.wait_for("document.querySelector('#frames li.control').offsetParent")
        assert page.run(
            "document.querySelectorAll('#frames li').length == document.querySelector('#tail-count').textContent"
        )
        page.run("document.querySelector('#tail-hold').click()")
        shown = len(_frames(page))
        seen = "Number(document.querySelector('#tail-count').textContent)"
        before = page.run(seen)
        ws.send("hold it")
        page.wait_for(f"{seen} >= {before + 2}")
        assert len(_frames(page)) == shown
        page.run("document.querySelector('#tail-hold').click(); document.querySelector('#tail-clear').click()")
        ws.send("go on")
        page.wait_for("document.querySelectorAll('#frames li:not(.control)').length == 2")
        assert _frames(page) == [["in", "go on"], ["out", "go on"]]


def test_json_is_indented_and_can_be_copied_and_searched(page: Browser) -> None:
    with served() as server, lapwing.connect(server.url, timeout=TIMEOUT) as ws:
        _open(page, server)
        _choose(page, ws)
        ws.send('{"price":1.50,"size":12345678901234567890,"tags":[]}')
        ws.send("plain text")
        page.wait_for("document.querySelectorAll('#frames li:not(.control)').length == 4")
        payload = "document.querySelector('#frames li:not(.control) .payload')"
        page.run(f"{payload}.click()")
        assert page.run(f"{payload}.textContent") == (
            '{\n  "price": 1.50,\n  "size": 12345678901234567890,\n  "tags": []\n}'
        ), "the digits are those that came"
        page.run("navigator.clipboard.writeText = async text => { window.copied = text; }")
        page.run("document.querySelector('#frames .copy').click()")
        page.wait_for("document.querySelector('#frames .copy').textContent == 'Copied'")
        assert page.run("window.copied") == page.run(f"{payload}.textContent")
        page.run(f"{payload}.click()")
        assert page.run(f"{payload}.textContent") == '{"price":1.50,"size":12345678901234567890,"tags":[]}'

        page.run("document.querySelector('#tail-search').focus()")
        page.write("PLAIN")
        visible = "[...document.querySelectorAll('#frames li:not(.control)')].filter(item => !item.hidden).length"
        page.wait_for(f"{visible} == 2")
        ws.send("plain again")
        ws.send("something else")
        page.wait_for(f"{visible} == 4")
        page.press("Escape")
        page.wait_for(f"{visible} == 8 && document.querySelector('#tail-search').value == ''")
        assert not page.run("document.querySelector('#panel').hidden"), "the first Escape clears the search alone"


def test_the_panel_can_be_widened(page: Browser) -> None:
    with served() as server, lapwing.connect(server.url, timeout=TIMEOUT) as ws:
        _open(page, server)
        _choose(page, ws)
        width = "document.querySelector('#panel').offsetWidth"
        before = page.run(width)
        page.run("document.querySelector('#panel-edge').focus()")
        page.press("ArrowLeft")
        page.press("ArrowLeft")
        page.wait_for(f"{width} == {before + 80}")
        for _ in range(40):
            page.press("ArrowLeft")
        assert page.run(f"innerWidth - {width}") >= 240, "something of the table stays"
        _open(page, server)
        _choose(page, ws)
        page.wait_for(f"{width} > {before + 80}")


def test_escape_leaves_the_focus_where_it_was(page: Browser) -> None:
    with served() as server, lapwing.connect(server.url, timeout=TIMEOUT) as ws:
        _open(page, server)
        page.run("document.querySelector('#filter').focus()")
        assert ws.local_address
        page.write(str(ws.local_address[1]))
        page.wait_for("document.querySelector('#count').textContent == '1'")
        page.press("Escape")
        page.wait_for("document.querySelector('#filter').value == ''")
        assert page.run("document.activeElement.id") == "filter"
        _choose(page, ws)
        page.run("document.querySelector('#filter').focus()")
        page.press("Escape")
        page.wait_for("document.querySelector('#panel').hidden")
        assert page.run("document.activeElement.id") == "filter"


def test_user_and_path_are_columns(page: Browser) -> None:
    def on_request(request: lapwing.IncomingRequest) -> None:
        request.user = "ada"

    with (
        served(on_request=on_request) as server,
        lapwing.connect(f"{server.url}/rooms/7?token=secret", timeout=TIMEOUT),
    ):
        _open(page, server)
        cell = "document.querySelector('#rows .row:not([hidden]) .{}')?.textContent"
        page.wait_for(f"{cell.format('user')} == 'ada'")
        assert page.run(cell.format("path")) == "/rooms/7?***"
        page.run("document.querySelector('#filter').focus()")
        page.write("rooms/7 ada")
        page.wait_for("document.querySelector('#count').textContent == '1'")


def test_what_an_operator_closes_is_not_abnormal(page: Browser) -> None:
    with served() as server, lapwing.connect(server.url, timeout=TIMEOUT) as ws:
        _open(page, server)
        _choose(page, ws)
        page.run("document.querySelector('#code').value = 1008")
        page.run("document.querySelector('#close button').click()")
        assert ws.receive() is None
        note = "[...document.querySelectorAll('#tiles dt')].find(term => term.textContent == 'Closed').parentElement"
        page.wait_for(f"{note}.querySelector('.value').textContent == '1'")
        assert page.run(f"{note}.querySelector('.note').textContent") == "0 abnormal"


def test_a_server_that_comes_back(page: Browser) -> None:
    inspector = lapwing.Inspector(token="the-same-token-as-before")
    with served(inspector=inspector) as server, lapwing.connect(server.url, timeout=TIMEOUT) as ws:
        port = server.port
        _open(page, server)
        _choose(page, ws)
    page.wait_for("document.querySelector('#state-text').textContent == 'Reconnecting'")
    assert page.run("document.querySelector('#panel-state').textContent") != ""
    assert page.run("document.querySelector('#send button').disabled")
    with (
        served(port=port, inspector=inspector) as server,
        lapwing.connect(server.url, "chat", timeout=TIMEOUT) as ws,
    ):
        _live(page)
        _choose(page, ws)
        ws.send("here again")
        page.wait_for("document.querySelectorAll('#frames li:not(.control)').length == 2")
        assert not page.run("document.querySelector('#send button').disabled")


def test_by_keyboard_alone(page: Browser) -> None:
    with served() as server, ExitStack() as stack:
        clients = [stack.enter_context(lapwing.connect(server.url, timeout=TIMEOUT)) for _ in range(3)]
        _open(page, server)
        page.wait_for("document.querySelector('#count').textContent == '3'")
        page.press("?")
        page.wait_for("document.querySelector('#keys').open")
        page.press("Escape")
        page.wait_for("!document.querySelector('#keys').open")
        page.press("j")
        page.wait_for("document.activeElement.id == 'grid'")
        page.press("ArrowDown")
        page.press("End")
        active = "document.getElementById(document.querySelector('#grid').getAttribute('aria-activedescendant'))"
        page.wait_for(
            f"{active}.getAttribute('aria-selected') == 'true' && {active}.getAttribute('aria-rowindex') == '4'"
        )
        page.press("Enter")
        page.wait_for("document.activeElement.id == 'panel-title'")
        peers = {f"127.0.0.1:{client.local_address[1]}" for client in clients if client.local_address}
        assert page.run("document.activeElement.textContent") in peers
        page.press("Escape")
        page.wait_for("document.activeElement.id == 'grid' && document.querySelector('#panel').hidden")
        page.press("/")
        page.wait_for("document.activeElement.id == 'filter'")
        assert clients[1].local_address
        page.write(str(clients[1].local_address[1]))
        page.wait_for("document.querySelector('#count').textContent == '1 of 3'")
        page.press("t")  # which is a letter here
        page.wait_for("document.querySelector('#nothing').textContent == 'No connection fits the filter.'")
        page.press("Escape")
        page.wait_for("document.querySelector('#count').textContent == '3'")
        assert page.run("document.activeElement.id") == "filter"
        page.press("ArrowDown")
        page.press("p")
        page.wait_for("document.querySelector('#pause').getAttribute('aria-pressed') == 'true'")
        page.press("p")
        reached = set()
        for _ in range(12):
            page.press("Tab")
            reached.add(page.run("document.activeElement.id"))
        assert {"pause", "theme", "help", "filter", "grid"} <= reached


def test_sorting(page: Browser) -> None:
    with served() as server, ExitStack() as stack:
        clients = [stack.enter_context(lapwing.connect(server.url, timeout=TIMEOUT)) for _ in range(3)]
        _open(page, server)
        page.wait_for("document.querySelector('#count').textContent == '3'")
        ports = [client.local_address[1] for client in clients if client.local_address]
        shown = "[...document.querySelectorAll('#rows .row:not([hidden]) .peer')].map(cell => cell.textContent)"
        page.run("document.querySelector('.head .peer button').click()")
        assert page.run(shown) == sorted(f"127.0.0.1:{port}" for port in ports)
        page.run("document.querySelector('.head .peer button').click()")
        assert page.run(shown) == sorted((f"127.0.0.1:{port}" for port in ports), reverse=True)
        assert page.run("document.querySelector('.head .peer').getAttribute('aria-sort')") == "descending"


def _background(page: Browser) -> int:
    """How bright the page is behind everything, 0 to 255."""
    return int(page.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"))


def test_both_themes(page: Browser) -> None:
    with served() as server:
        _open(page, server)
        _live(page)
        assert _background(page) > 200
        page.look_like(width=1280, height=800, theme="dark")
        assert _background(page) < 60
        page.press("t")
        assert page.run("document.querySelector('#theme').value") == "light"
        assert _background(page) > 200
        page.press("t")
        assert _background(page) < 60
        _open(page, server)  # it is kept
        _live(page)
        page.look_like(width=1280, height=800, theme="light")
        assert _background(page) < 60


CONTRASTS = """
(() => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const parse = (colour, under) => {
        canvas.fillStyle = `rgb(${under})`; canvas.fillRect(0, 0, 1, 1);
        canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const light = colour => {
        const [r, g, b] = colour.map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = element => element
        ? parse(getComputedStyle(element).backgroundColor, behind(element.parentElement)) : [255, 255, 255];
    const poor = [];
    for (const element of document.querySelectorAll('body *')) {
        const says = [...element.childNodes].some(node => node.nodeType == 3 && node.data.trim());
        if (!says || !element.offsetParent || element.closest('.hidden, :disabled, dialog, .skip')) continue;
        const back = behind(element);
        const [a, b] = [light(back), light(parse(getComputedStyle(element).color, back))].sort((x, y) => y - x);
        const contrast = (a + 0.05) / (b + 0.05);
        if (contrast < 4.5)
            poor.push(`${element.tagName}.${element.className} ${contrast} ${element.textContent.slice(0, 20)}`);
    }
    return poor;
})()
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out(page: Browser, theme: str) -> None:
    """WCAG 2.2 criterion 1.4.3: a contrast of 4.5 to 1."""
    with served() as server, lapwing.connect(server.url, "chat", timeout=TIMEOUT) as ws:
        page.look_like(width=1440, height=900, theme=theme)
        _open(page, server)
        _choose(page, ws)
        ws.send("hello")
        page.wait_for("document.querySelectorAll('#frames li:not(.control)').length == 2")
        page.run("new Promise(done => setTimeout(done, 250))")  # colours fade for a moment
        assert page.run(CONTRASTS) == []


#: Elements of text that is cut off, though nothing says that it goes on.
CUT = """
[...document.querySelectorAll('body *')].filter(element => element.offsetParent && !element.closest('.hidden, dialog')
    && element.childElementCount == 0 && element.textContent.trim() && element.scrollWidth > element.clientWidth + 1
    && getComputedStyle(element).overflowX != 'visible' && !element.closest('.payload, .peer')
).map(element => element.className + ': ' + element.textContent)
"""


@pytest.mark.parametrize(
    ("width", "height", "phone"), [(390, 844, True), (320, 640, True), (900, 700, False), (1920, 1080, False)]
)
def test_it_fits(page: Browser, width: int, height: int, phone: bool) -> None:
    with served() as server, lapwing.connect(server.url, "chat", timeout=TIMEOUT) as ws, answering(ws):
        page.look_like(width=width, height=height, phone=phone)
        _open(page, server)
        page.wait_for("document.querySelector('#rows .row:not([hidden]) .rtt')?.textContent?.includes('s')")
        assert page.run("document.documentElement.scrollWidth") <= width
        assert page.run(CUT) == []
        _choose(page, ws)
        page.wait_for("document.querySelectorAll('#numbers .value').length == 6")
        assert page.run("document.documentElement.scrollWidth") <= width
        assert page.run(CUT) == []
        inside = page.run(
            "[...document.querySelectorAll('#panel button')].every(button => {"
            " const box = button.getBoundingClientRect();"
            " return box.left >= 0 && box.right <= innerWidth && box.top >= 0 && box.bottom <= innerHeight; })"
        )
        assert inside
        if phone:
            assert page.run("document.querySelector('#panel').getBoundingClientRect().width") == width
            assert page.run("document.querySelector('#close button').offsetHeight") >= 38
        page.run("document.querySelector('#panel-close').click()")
        page.wait_for("document.querySelector('#panel').hidden")


def test_a_token_is_asked_for(page: Browser) -> None:
    token = "a-token-of-some-length"
    with served(inspector=lapwing.Inspector(token=token)) as server:
        _open(page, server, with_token=False)
        page.wait_for("document.querySelector('#ask').open")
        page.run("document.querySelector('#token').focus()")
        page.write("another-token-of-some-length")
        page.press("Enter")
        page.wait_for(
            "document.querySelector('#ask').open"
            " && document.querySelector('#ask-text').textContent.includes('not the server')"
        )
        page.run("document.querySelector('#token').focus()")
        page.write(token)
        page.press("Enter")
        _live(page)
        page.run("sessionStorage.clear()")
        page.show("about:blank")
        page.ask("Page.navigate", url=f"http://127.0.0.1:{server.port}/_lapwing/#token={token}")
        _live(page)
        assert token not in page.run("location.href")


def test_a_thousand_connections(page: Browser) -> None:
    """As many rows are there as fit, whatever the number of connections.

    The server is an example, in a process of its own.
    """

    async def crowd(url: str, begun: threading.Event, stop: threading.Event) -> None:
        clients: list[lapwing.AsyncClient] = []
        for _ in range(10):
            clients += await asyncio.gather(*(lapwing.connect(url) for _ in range(100)))
        begun.set()
        while not stop.is_set():
            for client in clients:
                await client.send("busy")
            await asyncio.sleep(0.2)
        await asyncio.gather(*(client.close() for client in clients))

    port = free_port()
    server = Program([sys.executable, str(EXAMPLE), str(port)])
    begun, stop = threading.Event(), threading.Event()
    try:
        address = server.complaint().split()[-1].replace("localhost", "127.0.0.1")
        wait_for_port(port, server)
        url = f"ws://127.0.0.1:{port}"
        thread = threading.Thread(target=lambda: asyncio.run(crowd(url, begun, stop)))
        thread.start()
        try:
            assert begun.wait(TIMEOUT)
            page.show(address)
            page.wait_for("document.querySelector('#count').textContent == '1,000'")
            page.wait_for("parseFloat(document.querySelector('#rows .in')?.textContent) > 0")
            assert page.run("document.querySelectorAll('#rows .row').length") < 60
            page.press("j")
            page.press("End")
            page.wait_for(
                "document.querySelector('#rows [aria-selected=true]')?.getAttribute('aria-rowindex') == '1001'"
            )
            page.run("document.querySelector('#filter').value = '127.0.0.1:'")
            page.run("document.querySelector('#filter').dispatchEvent(new Event('input'))")
            page.wait_for("document.querySelector('#count').textContent == '1,000'")
        finally:
            stop.set()
            thread.join()
    finally:
        server.close()


def test_several_workers(page: Browser) -> None:
    """Each connection is called by its worker's number and its own, and can be looked at, whichever has the page."""
    with program(PROGRAM, TOKEN) as process, ExitStack() as stack:
        assert process.stdout is not None
        ports = [int(process.stdout.readline()) for _ in range(2)]
        opened: dict[str, lapwing.Client] = {}
        while len(opened) < 2:
            ws = stack.enter_context(lapwing.connect(f"ws://127.0.0.1:{ports[0]}", timeout=TIMEOUT))
            opened.setdefault(str(ws.receive()), ws)
        page.show(f"http://127.0.0.1:{ports[0]}/_lapwing/#token={TOKEN}")
        _live(page)
        for ws in opened.values():
            _choose(page, ws)
            page.wait_for("/^#[01]·\\d+ · /.test(document.querySelector('#panel-state').textContent)")
            ws.send(b"seen")
            page.wait_for("document.querySelector('#frames li:not(.control)')")
        workers = (
            "[...document.querySelectorAll('#tiles div')].find(each => each.innerText.includes('connections each'))"
        )
        page.wait_for(f"{workers}?.querySelector('.value').textContent == '2'")


def test_topics_are_shown_as_text(page: Browser) -> None:
    hub = lapwing.Hub()
    hub.topic("chat:*", history=10)(lambda _: None)
    with served(hub=hub) as server:
        _open(page, server)
        _live(page)
        page.wait_for("!document.querySelector('#topics').hidden")

        async def talk() -> None:
            async with hub.subscribe("chat:1"), hub.subscribe(f"chat:{MARKUP}"):
                while not stop.is_set():
                    await hub.publish("chat:1", 1)
                    await asyncio.sleep(0.01)

        stop = threading.Event()
        talking = threading.Thread(target=server.call, args=(talk,))
        talking.start()
        try:
            page.wait_for("document.querySelectorAll('#topics-names tr').length == 2")
            names = "[...document.querySelectorAll('#topics-names th')].map(cell => cell.textContent)"
            assert set(page.run(names)) == {"chat:1", f"chat:{MARKUP}"}
            page.wait_for("parseFloat(document.querySelector('#topics-patterns').rows[0].cells[4].textContent) > 1")
            row = "[...document.querySelector('#topics-patterns').rows[0].cells].map(cell => cell.textContent)"
            shown = page.run(row)
            assert [shown[0], shown[1], shown[2], shown[5], shown[6]] == ["chat:*", "2", "2", "0", "0"]
            assert page.run("document.querySelector('#topics-count').textContent") == "2"
        finally:
            stop.set()
            talking.join()
