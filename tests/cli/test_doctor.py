"""`lapwing doctor`."""

from __future__ import annotations

import json
import platform
import ssl
import subprocess
import sys
from collections.abc import Iterator

import pytest

import lapwing
from lapwing.cli import doctor, main
from lapwing.cli.outcome import Status
from lapwing.protocol import BUILD


@pytest.fixture
def _descriptors() -> Iterator[None]:
    """Put the limit of descriptors back."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_facts() -> None:
    facts, _ = doctor.examine()
    assert facts["lapwing"]["version"] == lapwing.__version__
    assert facts["lapwing"]["cython"] == BUILD["cython"]
    assert facts["python"]["version"] == platform.python_version()
    assert facts["compression"]["library"] == "zlib-ng"
    assert facts["TLS"]["library"] == ssl.OPENSSL_VERSION
    assert facts["TLS"]["minimum_version"] == "TLS 1.2"
    assert facts["event loop"]["reactor"] == ("epoll" if sys.platform == "linux" else facts["event loop"]["reactor"])
    assert all(facts["dependencies"].values())
    assert set(facts["extras"]) >= {"cli", "uvloop"}


def test_the_minimum_of_tls_is_that_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the doctor says of TLS is what a client does."""
    made = []
    create = ssl.create_default_context

    def spy(*arguments: object, **options: object) -> ssl.SSLContext:
        made.append(create(*arguments, **options))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", spy)
    from lapwing.io import trust

    trust.client_context.__wrapped__()
    assert made[0].minimum_version is ssl.TLSVersion.TLSv1_2


def test_the_extras_are_those_of_the_project() -> None:
    from importlib.metadata import metadata

    provided = set(metadata("lapwing").get_all("Provides-Extra") or ())
    assert set(doctor._EXTRAS) == provided


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) in (Status.OK, Status.ENDED_BADLY)
    told = capsys.readouterr().out
    assert f"  version            {lapwing.__version__}\n" in told
    assert "warnings" in told


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["python"]["executable"] == sys.executable
    assert isinstance(told["warnings"], list)


@pytest.mark.usefixtures("_descriptors")
def test_few_descriptors_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    assert main(["doctor"]) == Status.ENDED_BADLY
    told = capsys.readouterr().out
    assert "a process may open 512 files, so a server has at most about 462 connections: ulimit -n" in told


def test_a_build_for_tests_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILD, "sanitized", True)
    _, warnings = doctor.examine()
    assert any("this build of the native engine is a slow one" in warning for warning in warnings)


def test_what_is_missing_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in ("python-socks", "rich") else real(name))
    facts, warnings = doctor.examine()
    assert "python-socks is missing: pip install python-socks" in warnings
    assert facts["extras"]["cli"] is None


def test_what_is_optional_and_missing_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in ("rich", "hiredis") else "1.0")
    main(["doctor"])
    told = capsys.readouterr().out
    assert "  cli                not installed: pip install prompt-toolkit rich\n" in told
    assert "  redis              not installed: pip install hiredis\n" in told
    assert "  aiohttp            aiohttp 1.0\n" in told
    main(["doctor", "--json"])
    assert json.loads(capsys.readouterr().out)["extras"]["cli"] is None


def test_it_works_without_any_extra() -> None:
    program = (
        "import sys\n"
        "for name in ('rich', 'prompt_toolkit', 'uvloop', 'prometheus_client', 'opentelemetry'):\n"
        "    sys.modules[name] = None\n"
        "from lapwing.cli import main\nsys.exit(main(['doctor', '--json']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == ""
    assert json.loads(done.stdout)["lapwing"]["version"] == lapwing.__version__
