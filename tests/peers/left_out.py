"""What a run of the tests says at its end: which were left out for want of a program, and how to get it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.peers.needed import PEERS, describe, is_there, reason


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--left-out", metavar="FILE", help="write what was left out to FILE as JSON, instead of showing it at the end"
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    yield
    reasons = {f"Skipped: {reason(name)}": name for name in PEERS if not is_there(name)}
    skipped = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", [])]
    left_out = Counter(reasons[said] for said in skipped if said in reasons)
    if file := config.getoption("--left-out"):
        Path(file).write_text(json.dumps(left_out), encoding="utf-8")
    elif left_out:
        terminalreporter.section("left out")
        terminalreporter.write(describe(left_out))
