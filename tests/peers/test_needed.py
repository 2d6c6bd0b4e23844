"""A missing program by another author: its tests are left out for a user, and fail for root and in CI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests import run
from tests.peers import needed
from tests.peers.needed import Peer, describe, find, how_to_get, need, need_library

TESTS = Path(__file__).parent.parent

#: A suite in which a user has no nginx, whatever this machine has.
SUITE = """
import os, sys, pytest
from tests.peers import needed
from tests.peers.needed import Peer, need, need_library

os.geteuid = lambda: {user}
needed.PEERS.update(nginx=Peer(("nginx-light",), ("no-such-nginx",)), python=Peer(("python3",), (sys.executable,)))

def test_python(): assert need("python") == sys.executable
def test_nginx(): need("nginx")
@pytest.fixture(scope="module", params=[1, 2])
def site(): need("nginx")
def test_site(site): pass
def test_site_again(site): pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A test suite that begins the tests as this one does; CI is unset."""
    monkeypatch.delenv("CI", raising=False)
    pytester.makeini("[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider -p no:asyncio\npythonpath = .\n")
    tests = pytester.mkdir("tests")
    (tests / "peers").symlink_to(TESTS / "peers")
    (tests / "conftest.py").write_text('pytest_plugins = ["tests.peers.left_out"]\n')
    return pytester


def _run(suite: pytest.Pytester, *options: str, user: int = 1000) -> pytest.RunResult:
    (suite.path / "tests" / "test_it.py").write_text(SUITE.format(user=user))
    return suite.runpytest_subprocess("tests/test_it.py", *options)


def test_a_user_without_a_program_is_told_what_was_left_out(suite: pytest.Pytester) -> None:
    result = _run(suite)
    result.assert_outcomes(passed=1, skipped=5)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*= left out =*",
            "5 tests were left out, for want of programs by other authors: nginx (5).",
            "On Debian or Ubuntu these commands install them; then run the tests again:",
            "    sudo apt-get install nginx-light",
        ]
    )


def test_nothing_is_said_where_nothing_was_left_out(suite: pytest.Pytester) -> None:
    result = _run(suite, "-k", "python")
    result.assert_outcomes(passed=1, deselected=5)
    result.stdout.no_fnmatch_line("*left out*")


@pytest.mark.parametrize(("user", "ci"), [(0, ""), (0, "false"), (1000, "true"), (1000, "1")])
def test_where_programs_must_be_there_a_missing_one_is_a_failure(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, user: int, ci: str
) -> None:
    monkeypatch.setenv("CI", ci)
    result = _run(suite, user=user)
    result.assert_outcomes(passed=1, failed=1, errors=4)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["nginx is missing: sudo apt-get install nginx-light", "FAILED *test_nginx - Failed: *"]
    )
    result.stdout.no_fnmatch_line("*left out*")


@pytest.mark.parametrize("ci", ["", "0", "false", "False"])
def test_ci_can_be_said_to_be_off(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    monkeypatch.setenv("CI", ci)
    _run(suite).assert_outcomes(passed=1, skipped=5)


def test_what_was_left_out_can_go_to_a_file(suite: pytest.Pytester) -> None:
    result = _run(suite, "--left-out=here.json")
    result.stdout.no_fnmatch_line("*= left out =*")
    assert (suite.path / "here.json").read_text() == '{"nginx": 5}'


def test_all_parts_of_the_suite_are_told_of_together(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    program = """
import json, pathlib, sys
where, *_, option = sys.argv[1:]
print("ran", where)
name = "nginx" if where == "tests/faces" else "haproxy"
pathlib.Path(option.removeprefix("--left-out=")).write_text(json.dumps({name: 2, "tmux": 1}))
sys.exit(3 if name == "haproxy" else 0)
"""
    monkeypatch.setattr(run, "PYTEST", [sys.executable, "-c", program])
    monkeypatch.setattr(needed, "is_installed", lambda name: False)
    assert run.main([]) == 3
    text = capfd.readouterr().out
    assert "ran --ignore=tests/faces" in text
    of_faces = sum(part[0] == "tests/faces" for part in run.WHOLE)
    assert text.count("ran tests/faces") == of_faces
    assert text.endswith(
        describe(Counter(nginx=2 * of_faces, haproxy=2 * (len(run.WHOLE) - of_faces), tmux=len(run.WHOLE)))
    )


def test_the_commands_name_each_package_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needed, "is_installed", lambda name: False)
    assert how_to_get(["haproxy", "node"]) == [
        "sudo apt-get install haproxy nodejs npm",
        "npm ci --prefix tests/interop/node --ignore-scripts",
    ]


def test_packages_of_npm_alone_need_no_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(needed, "is_installed", lambda name: True)
    monkeypatch.setattr(needed, "find", lambda commands: commands)
    monkeypatch.setattr(needed, "NODE", tmp_path)
    assert not needed.is_there("node")
    assert how_to_get(["node"]) == ["npm ci --prefix tests/interop/node --ignore-scripts"]
    for package in needed.PEERS["node"].npm:
        (tmp_path / "node_modules" / package).mkdir(parents=True)
    assert needed.is_there("node")


def test_one_of_several_commands_is_enough() -> None:
    assert find("no-such-program sh") == find("sh")
    assert find("no-such-program") is None


@pytest.mark.parametrize(
    ("peer", "there"),
    [
        (Peer((), ("sh",)), True),
        (Peer((), ("sh", "no-such-program")), False),
        (Peer((), ("sh",), files=(__file__,)), True),
        (Peer((), ("sh",), files=(__file__ + "x",)), False),
        (Peer((), ("sh",), asks=(("sh", "-c", "exit 0"),)), True),
        (Peer((), ("sh",), asks=(("sh", "-c", "exit 2"),)), False),
    ],
)
def test_a_program_is_there_with_all_that_it_needs(
    monkeypatch: pytest.MonkeyPatch, peer: Peer, there: bool, request: pytest.FixtureRequest
) -> None:
    name = request.node.name  # answers are kept by name
    monkeypatch.setitem(needed.PEERS, name, peer)
    assert needed.is_there(name) is there
    if there:
        assert need(name) == find("sh")


@pytest.mark.parametrize(("free_threaded", "outcome"), [(1, pytest.skip.Exception), (0, pytest.fail.Exception)])
def test_a_library_is_left_out_where_it_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, free_threaded: int, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(needed, "find_spec", lambda name: None)
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: free_threaded)
    with pytest.raises(outcome, match="gevent"):
        need_library("gevent")
    with pytest.raises(pytest.fail.Exception, match="websockets is missing: it is in the dependency group `test`"):
        need_library("websockets")


# --- as a program ------------------------------------------------------------------------------------------------


class Machine:
    """A machine whose programs are installed by apt-get, which is only recorded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, user: int, ci: str = "") -> None:
        self._monkeypatch = monkeypatch
        self.installed = {"openssl"}
        self.ran: list[list[str]] = []
        peers = {"openssl": Peer(("openssl",), ("sh",)), "nginx": Peer(("nginx-light",), ("sh",))}
        peers["tmux"] = Peer(("tmux",), ("sh",), by_tests=False)
        monkeypatch.setenv("CI", ci)
        monkeypatch.setattr(os, "geteuid", lambda: user)
        monkeypatch.setattr(needed, "PEERS", peers)
        monkeypatch.setattr(needed, "is_installed", self)
        monkeypatch.setattr(subprocess, "run", self.run)
        monkeypatch.setattr(shutil, "which", lambda name, path=None: f"/bin/{name}")

    def __call__(self, name: str) -> bool:
        return name in self.installed

    def cache_clear(self) -> None:
        """As that of the function which this stands for."""

    def run(self, command: list[str], **_: Any) -> None:
        self.ran.append(command)
        self.installed |= {name for name, peer in needed.PEERS.items() if set(peer.packages) & set(command)}

    def call(self, *arguments: str) -> int:
        self._monkeypatch.setattr(sys, "argv", ["needed.py", *arguments])
        return needed.main()


def test_root_installs_what_the_tests_need(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, user=0)
    assert machine.call() == 0
    assert [command[:2] for command in machine.ran] == [["apt-get", "update"], ["apt-get", "install"]]
    assert machine.ran[1][-1] == "nginx-light"
    assert machine.installed == {"openssl", "nginx"}


@pytest.mark.parametrize(("arguments", "ci", "status"), [((), "", 0), ((), "1", 1), (("nginx",), "", 1)])
def test_a_user_is_told_the_commands(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    ci: str,
    status: int,
) -> None:
    machine = Machine(monkeypatch, user=1000, ci=ci)
    assert machine.call(*arguments) == status
    assert not machine.ran
    text = capsys.readouterr().err
    assert text.startswith("missing: nginx")
    assert ("will be left out" in text) is (status == 0)
    assert text.endswith("    sudo apt-get install nginx-light\n")


def test_the_packages_can_be_asked_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(monkeypatch, user=1000)
    assert machine.call("--packages") == 0
    assert machine.call("--packages", "tmux", "nginx") == 0
    assert capsys.readouterr().out == "nginx-light\ntmux nginx-light\n"


def test_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Machine(monkeypatch, user=0).call("apache")
    assert "no peer is called apache: expected openssl, nginx, tmux" in capsys.readouterr().err
