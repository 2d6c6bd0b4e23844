"""The command starts fast because it imports little, and works without its extra as far as it can."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lapwing
from lapwing.cli import COMMANDS, main
from lapwing.cli.outcome import Failed, Status

HEAVY = {"asyncio", "httptools", "logging", "prompt_toolkit", "rich", "socket", "ssl", "threading", "zlib_ng"}


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_what_is_imported(option: str) -> None:
    program = (
        "import sys\nfrom lapwing.cli import main\n"
        f"try:\n    main([{option!r}])\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = set(done.stderr.split())
    assert imported & HEAVY == set()
    assert {name for name in imported if name.startswith("lapwing")} == {
        "lapwing",
        "lapwing.cli",
        "lapwing.cli.outcome",
    }


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"lapwing {lapwing.__version__}\n"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    for name, line in COMMANDS.items():
        assert f"  {name:<9} {line}\n" in told


def test_without_a_command_it_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("usage: lapwing")
    assert all(f"  {name:<9} {line}\n" in told.out for name, line in COMMANDS.items())
    assert told.err == ""


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("speak", "`lapwing --help` lists the commands."),
        ("connekt", "Did you mean `lapwing connect`?"),
        ("reply", "Did you mean `lapwing replay`?"),
        ("localhost:8080", "Did you mean `lapwing connect ws://localhost:8080`?"),
        ("example.org/live", "Did you mean `lapwing connect ws://example.org/live`?"),
        ("http://localhost:8080", "Did you mean `lapwing connect ws://localhost:8080`?"),
        ("https://example.org", "Did you mean `lapwing connect wss://example.org`?"),
    ],
)
def test_an_unknown_command_is_named(capsys: pytest.CaptureFixture[str], word: str, hint: str) -> None:
    assert main([word]) == Status.USAGE
    assert capsys.readouterr().err == f"lapwing: unknown command {word}. {hint}\n"


def test_an_unknown_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--verzion"])
    assert ended.value.code == 2
    assert "usage: lapwing" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "WSS://127.0.0.1:1", "ws+unix:///nowhere/socket:/"])
def test_a_url_alone_connects(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([url, "-m", "hello", "-n", "1"]) == Status.NOT_CONNECTED
    assert capsys.readouterr().err.startswith("lapwing connect: ")


@pytest.mark.parametrize("columns", [60, 200])
def test_help_is_as_wide_as_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        main(["connect", "--help"])
    told = capsys.readouterr().out
    for paragraph in told[told.index("On a terminal") : told.index("exit status")].strip().split("\n\n"):
        lines = paragraph.splitlines()
        assert max(map(len, lines)) <= columns
        assert all(len(line) > columns - 30 for line in lines[:-1]), "lines end before they have to"


def test_help_keeps_what_is_indented(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    assert "\n  lapwing serve app.py:echo          " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["connect", "ping", "record", "replay", "doctor"])
def test_each_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert f"usage: lapwing {name}" in told
    assert "exit status: 0" in told


@pytest.mark.parametrize("library", ["prompt_toolkit", "rich"])
def test_without_the_extra_a_session_says_how_to_get_it(
    library: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("session", "prompt", "display"):
        monkeypatch.delitem(sys.modules, f"lapwing.cli.{name}", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["connect", "ws://127.0.0.1:1"]) == Status.USAGE
    assert capsys.readouterr().err == f"lapwing connect needs {library}: pip install rich prompt-toolkit\n"


def test_failures_end_a_command_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lapwing.cli import doctor

    def fail(_arguments: object) -> int:
        raise Failed("no", Status.REFUSED)

    monkeypatch.setattr(doctor, "run", fail)
    assert main(["doctor"]) == 4
    assert capsys.readouterr().err == "lapwing doctor: no\n"


def test_an_interrupted_command_has_the_status_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from lapwing.cli import doctor

    def interrupt(_arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "run", interrupt)
    assert main(["doctor"]) == 130


def test_another_missing_module_is_a_bug_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from lapwing.cli import doctor

    def fail(_arguments: object) -> int:
        raise ModuleNotFoundError("No module named 'x'", name="x")

    monkeypatch.setattr(doctor, "run", fail)
    with pytest.raises(ModuleNotFoundError):
        main(["doctor"])
