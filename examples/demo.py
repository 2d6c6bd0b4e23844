"""The demonstration: a server, a blocking client and an asyncio client talk over ws and wss, and print a transcript.

Each client talks to each handler: "echo", "echo-uppercase", and the default handler. Then two clients join a room with
a history, and one of them is disconnected for a while. The transcript is compared with the expected one: the exit
status is 0 if they are equal; otherwise it is 1, and the difference is printed.

Usage: python demo.py (needs the openssl command for a certificate)
"""

import asyncio
import difflib
import json
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import lapwing

SAID = ["hello", "schöne Grüße"]


# --- the server ---


async def echo(ws: lapwing.Connection) -> None:
    """Send every message back."""
    async for message in ws:
        await ws.send(message)


async def echo_uppercase(ws: lapwing.Connection) -> None:
    """Send every message back in capitals."""
    async for message in ws:
        await ws.send(message.upper())


async def goodbye(ws: lapwing.Connection) -> None:
    """Serve a client that asked for no known subprotocol."""
    await ws.send("goodbye strange client")
    await ws.close()


HANDLERS = {"echo": echo, "echo-uppercase": echo_uppercase}

hub = lapwing.Hub()


@hub.topic("room", history=100, frame=lambda message: json.dumps([message.position, message.data]))
def allow_all(ask: lapwing.hub.Ask) -> None:
    """Let all clients subscribe to the room."""


async def room(ws: lapwing.Connection) -> None:
    """Join the room from the client's position on, and publish the client's messages there."""
    joined = await hub.join(ws, "room", since=await ws.receive_json())
    await ws.send("recovered" if joined.recovered else "joined")
    async for message in ws:
        await hub.publish("room", message)


# --- the clients: both hold the same conversation, and write it down ---


def blocking_client(url: str, subprotocol: str | None, context: ssl.SSLContext | None) -> list[str]:
    """Hold the conversation without an event loop."""
    transcript = []
    with lapwing.connect(url, subprotocol, ssl=context, timeout=10) as ws:
        transcript.append(f"  subprotocol {ws.subprotocol}")
        if subprotocol is None:
            transcript.append(f"  server: {ws.receive()}")
            transcript.append(f"  server: {ws.receive()}")  # None: the server has closed the connection
            transcript.append(f"  {ws.closed}")
            return transcript
        for message in SAID:
            ws.send(message)
            transcript.append(f"  client: {message}")
            transcript.append(f"  server: {ws.receive()}")
        transcript.append(f"  {ws.close()}")
    return transcript


async def asyncio_client(url: str, subprotocol: str | None, context: ssl.SSLContext | None) -> list[str]:
    """Hold the conversation in the event loop."""
    transcript = []
    async with lapwing.connect(url, subprotocol, ssl=context, timeout=10) as ws:
        transcript.append(f"  subprotocol {ws.subprotocol}")
        if subprotocol is None:
            transcript.append(f"  server: {await ws.receive()}")
            transcript.append(f"  server: {await ws.receive()}")
            transcript.append(f"  {ws.closed}")
            return transcript
        for message in SAID:
            await ws.send(message)
            transcript.append(f"  client: {message}")
            transcript.append(f"  server: {await ws.receive()}")
        transcript.append(f"  {await ws.close()}")
    return transcript


async def meet(url: str) -> list[str]:
    """Let two clients talk in the room; Bob is disconnected while Ada sends two messages."""
    transcript = []
    async with lapwing.connect(url, timeout=10) as ada:
        await ada.send_json(None)
        transcript.append(f"  ada: {await ada.receive()}")
        async with lapwing.connect(url, timeout=10) as bob:
            await bob.send_json(None)
            transcript.append(f"  bob: {await bob.receive()}")
            await ada.send("hello bob")
            position, text = await bob.receive_json()
            transcript.append(f"  bob hears: {text}")
        for text in ("where are you?", "bob?"):
            await ada.send(text)
        transcript += [f"  ada hears: {(await ada.receive_json())[1]}" for _ in range(3)]
        async with lapwing.connect(url, timeout=10) as bob:
            await bob.send_json(position)
            came = {str(await bob.receive()) for _ in range(3)}
            missed = sorted(json.loads(each) for each in came - {"recovered"})
            transcript.append(f"  bob is back, {'recovered' if 'recovered' in came else 'and has lost something'}")
            transcript.extend(f"  bob hears: {text}" for _, text in missed)
    return transcript


MET = """\
  ada: joined
  bob: joined
  bob hears: hello bob
  ada hears: hello bob
  ada hears: where are you?
  ada hears: bob?
  bob is back, recovered
  bob hears: where are you?
  bob hears: bob?""".splitlines()


# --- the expected transcripts ---


def expected(subprotocol: str | None) -> Iterator[str]:
    """Return the expected transcript of a conversation."""
    yield f"  subprotocol {subprotocol}"
    if subprotocol is None:
        yield "  server: goodbye strange client"
        yield "  server: None"
    else:
        for message in SAID:
            yield f"  client: {message}"
            yield f"  server: {message.upper() if subprotocol == 'echo-uppercase' else message}"
    yield "  Closed(was_clean=True, code=1000, reason='')"


# --- the main program ---


def make_certificate(directory: Path) -> tuple[str, str]:
    """Make a certificate for this machine, valid for one day; return its path and that of its private key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        sys.exit("the demonstration of wss needs the openssl command (on Debian: apt-get install openssl)")
    certfile, keyfile = str(directory / "cert.pem"), str(directory / "key.pem")
    command = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"]
    made = subprocess.run(
        [*command.split(), *names, "-keyout", keyfile, "-out", certfile], capture_output=True, text=True, check=False
    )
    if made.returncode:
        sys.exit(f"openssl made no certificate:\n{made.stderr}")
    return certfile, keyfile


async def talk(url: str, context: ssl.SSLContext | None) -> bool:
    """Hold every conversation with one server, print it, and return whether all were as expected."""
    right = True
    for face in ("blocking", "asyncio"):
        for subprotocol in (*HANDLERS, None):
            print(f"{url.partition(':')[0]}, {face} client, {subprotocol or 'no subprotocol'}")
            if face == "blocking":
                transcript = await asyncio.to_thread(blocking_client, url, subprotocol, context)
            else:
                transcript = await asyncio_client(url, subprotocol, context)
            right &= is_right(transcript, list(expected(subprotocol)))
    return right


def is_right(transcript: list[str], expected: list[str]) -> bool:
    """Print a transcript and how it differs from the expected one; return whether they are equal."""
    print(*transcript, "", sep="\n")
    difference = list(difflib.unified_diff(expected, transcript, "expected", "said", lineterm=""))
    if difference:
        print(*difference, "", sep="\n", file=sys.stderr)
    return not difference


async def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        certfile, keyfile = make_certificate(Path(directory))
        context = ssl.create_default_context(cafile=certfile)
        async with (
            lapwing.listen(port=0, protocols=HANDLERS, default=goodbye) as plain,
            lapwing.listen(port=0, protocols=HANDLERS, default=goodbye, certfile=certfile, keyfile=keyfile) as secure,
        ):
            right = await talk(f"ws://localhost:{plain.port}", None)
            right &= await talk(f"wss://localhost:{secure.port}", context)
        async with lapwing.listen(port=0, default=room, hub=hub) as server:
            print("ws, a room of two with a history, by the hub")
            right &= is_right(await meet(f"ws://localhost:{server.port}"), MET)
    print("everything was said as it should be" if right else "NOT everything was said as it should be, see above")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
