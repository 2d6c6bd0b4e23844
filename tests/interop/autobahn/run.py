"""The Autobahn testsuite, some 500 cases of RFC 6455 and RFC 7692, against lapwing's server and its client.

`make autobahn` installs the suite, which needs Python 2.7, and runs this. A case is OK, or NON-STRICT where the RFC
demands what it tests of nobody; anything else is a failure, and this ends with status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lapwing

#: Cases whose outcome says nothing of right and wrong.
PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}

#: Cases send messages of up to 16 MiB.
OPTIONS: dict[str, Any] = {"max_message_size": 64 * 1024 * 1024, "ping_interval": None}


async def echo(ws: lapwing.Connection | lapwing.AsyncClient) -> None:
    try:
        async for message in ws:
            await ws.send(message)
    except lapwing.ConnectionClosed:
        pass  # what the case was about


async def finish(suite: asyncio.subprocess.Process) -> None:
    if suite.returncode is None:
        suite.terminate()
    await suite.wait()


async def try_server(wstest: str, cases: list[str], directory: Path) -> None:
    """Have the suite connect to a server, once for each case."""
    async with lapwing.listen(0, "127.0.0.1", default=echo, **OPTIONS) as server:
        plan = {
            "outdir": str(directory),
            "servers": [{"agent": "server", "url": f"ws://127.0.0.1:{server.port}"}],
            "cases": cases,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        await run_suite(wstest, "fuzzingclient", plan, directory)


async def try_client(wstest: str, cases: list[str], directory: Path) -> None:
    """Connect to the suite, once for each case."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"ws://127.0.0.1:{free.getsockname()[1]}"
    plan = {"url": url, "outdir": str(directory), "cases": cases, "exclude-cases": [], "exclude-agent-cases": {}}
    suite = await start_suite(wstest, "fuzzingserver", plan, directory)
    try:
        count = int(await ask(f"{url}/getCaseCount", tries=100))
        for case in range(1, count + 1):
            async with lapwing.connect(f"{url}/runCase?case={case}&agent=client", **OPTIONS) as ws:
                await echo(ws)
        await ask(f"{url}/updateReports?agent=client")
    finally:
        await finish(suite)


async def ask(url: str, tries: int = 1) -> str:
    """The message with which the suite answers, which it may take a while to be ready for."""
    for left in reversed(range(tries)):
        try:
            async with lapwing.connect(url) as ws:
                return str(await ws.receive())
        except OSError:
            if not left:
                raise
            await asyncio.sleep(0.1)
    raise AssertionError


async def start_suite(
    wstest: str, mode: str, plan: Mapping[str, object], directory: Path
) -> asyncio.subprocess.Process:
    path = directory / f"{mode}.json"
    path.write_text(json.dumps(plan))
    log = (directory / f"{mode}.log").open("wb")
    with log:
        return await asyncio.create_subprocess_exec(
            wstest, "-m", mode, "-s", str(path), cwd=directory, stdout=log, stderr=subprocess.STDOUT
        )


async def run_suite(wstest: str, mode: str, plan: Mapping[str, object], directory: Path) -> None:
    suite = await start_suite(wstest, mode, plan, directory)
    try:
        await suite.wait()
    finally:
        await finish(suite)


def report(directory: Path) -> bool:
    """Print how often each role behaved how, and each case that is not OK; returns whether none failed."""
    found = json.loads((directory / "index.json").read_text())
    passed = True
    for role, cases in sorted(found.items()):
        behaviour = {name: case["behavior"] for name, case in cases.items()}
        closing = {name: case["behaviorClose"] for name, case in cases.items()}
        counts = Counter(behaviour.values())
        print(f"{role}: {len(cases)} cases, " + ", ".join(f"{count} {what}" for what, count in counts.most_common()))
        for name in sorted(cases, key=lambda name: [int(part) for part in name.split(".")]):
            if behaviour[name] not in ("OK", "INFORMATIONAL") or closing[name] not in ("OK", "INFORMATIONAL"):
                print(f"  {name}: {behaviour[name]}, closing {closing[name]}")
        passed = passed and PASSED.issuperset(behaviour.values()) and PASSED.issuperset(closing.values())
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wstest", required=True, help="the program of the suite")
    parser.add_argument("--role", choices=["server", "client"], help="one of them; both by default")
    parser.add_argument("--cases", nargs="*", default=["*"], help='which cases, as in "3.*" "4.*"; all by default')
    parser.add_argument("--seconds", type=float, default=1800, help="how long each role may take")
    options = parser.parse_args()
    passed = True
    for role in ("server", "client"):
        if options.role not in (None, role):
            continue
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            attempt = {"server": try_server, "client": try_client}[role]
            trying = attempt(options.wstest, options.cases, directory)
            asyncio.run(asyncio.wait_for(trying, options.seconds))
            passed = report(directory) and passed
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
