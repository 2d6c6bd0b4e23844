"""SSLKEYLOGFILE: with it, the contexts that lapwing makes by itself write the keys that Wireshark reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.certificates import Certificates

PROGRAM = """
import asyncio, ssl, sys, lapwing
from lapwing.io import trust

certfile, keyfile, ca_file, side = sys.argv[1:]
trust.client_context().load_verify_locations(ca_file)

async def greet(ws):
    await ws.send("hello")

async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certfile, keyfile)
    options = {"ssl": context} if side == "client" else {"certfile": certfile, "keyfile": keyfile}
    client = {}
    if side == "server":
        client["ssl"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client["ssl"].load_verify_locations(ca_file)
    async with lapwing.listen(0, "127.0.0.1", default=greet, **options) as server:
        async with lapwing.connect(f"wss://localhost:{server.port}", **client) as ws:
            print(await ws.receive())

asyncio.run(main())
"""


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("wanted", [True, False])
def test_keys_are_logged_where_the_environment_says(
    side: str, wanted: bool, tls: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "keys"
    if wanted:
        monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    else:
        monkeypatch.delenv("SSLKEYLOGFILE", raising=False)
    arguments = [str(tls.good.certfile), str(tls.good.keyfile), str(tls.ca_file), side]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout == "hello\n"
    if wanted:
        assert "CLIENT_TRAFFIC_SECRET_0 " in log.read_text(encoding="utf-8")
    else:
        assert not log.exists()
