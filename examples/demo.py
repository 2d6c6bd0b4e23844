"""The demonstration: one server, a blocking and an asyncio client, over ws and wss; what was said is printed.

Each client talks to each handler: "echo", "echo-uppercase", and the default one for strangers. What was said is held
against what should have been: the exit status is 0 when they agree, and 1, with the difference, when they do not.

Usage: python demo.py (needs the openssl command for a certificate)
"""

import asyncio
import difflib
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
    """Say goodbye to whoever asked for no subprotocol that is known."""
    await ws.send("goodbye strange client")
    await ws.close()


HANDLERS = {"echo": echo, "echo-uppercase": echo_uppercase}


# --- the clients: the same conversation twice, each line of it in the transcript ---


def blocking_client(url: str, subprotocol: str | None, context: ssl.SSLContext | None) -> list[str]:
    """Talk without an event loop."""
    transcript = []
    with lapwing.connect(url, subprotocol, ssl=context, timeout=10) as ws:
        transcript.append(f"  subprotocol {ws.subprotocol}")
        if subprotocol is None:
            transcript.append(f"  server: {ws.receive()}")
            transcript.append(f"  server: {ws.receive()}")  # None: the server has closed
            transcript.append(f"  {ws.closed}")
            return transcript
        for message in SAID:
            ws.send(message)
            transcript.append(f"  client: {message}")
            transcript.append(f"  server: {ws.receive()}")
        transcript.append(f"  {ws.close()}")
    return transcript


async def asyncio_client(url: str, subprotocol: str | None, context: ssl.SSLContext | None) -> list[str]:
    """Talk in the event loop."""
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


# --- what they should say ---


def expected(subprotocol: str | None) -> Iterator[str]:
    """What the transcript of a conversation should be."""
    yield f"  subprotocol {subprotocol}"
    if subprotocol is None:
        yield "  server: goodbye strange client"
        yield "  server: None"
    else:
        for message in SAID:
            yield f"  client: {message}"
            yield f"  server: {message.upper() if subprotocol == 'echo-uppercase' else message}"
    yield "  Closed(was_clean=True, code=1000, reason='')"


# --- the whole ---


def make_certificate(directory: Path) -> tuple[str, str]:
    """Make a certificate for this machine and for one day; return the paths of it and of its private key."""
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
    """Hold every conversation with one server, print it, and return whether each was as it should be."""
    right = True
    for face in ("blocking", "asyncio"):
        for subprotocol in (*HANDLERS, None):
            print(f"{url.partition(':')[0]}, {face} client, {subprotocol or 'no subprotocol'}")
            if face == "blocking":
                transcript = await asyncio.to_thread(blocking_client, url, subprotocol, context)
            else:
                transcript = await asyncio_client(url, subprotocol, context)
            print(*transcript, "", sep="\n")
            difference = list(
                difflib.unified_diff(list(expected(subprotocol)), transcript, "expected", "said", lineterm="")
            )
            if difference:
                right = False
                print(*difference, "", sep="\n", file=sys.stderr)
    return right


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
    print("everything was said as it should be" if right else "NOT everything was said as it should be, see above")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
