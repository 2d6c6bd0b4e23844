"""Child processes: built, pinned to a core, waited for with a limit, and ended by their own process id."""

import contextlib
import json
import os
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
PROGRAMS = ("floor", "feed", "load")

START_LIMIT = 120.0
"""Seconds for a program to say its first line; opening thousands of connections is part of it for one."""

PORT_INTERVAL = 0.02
"""Seconds between two attempts to reach a program that listens soon."""

END_LIMIT = 5.0
"""Seconds for a program to end when asked to."""


class MeasurementError(Exception):
    """A measured program, or one that measures, did not do its part."""


def has_openssl() -> bool:
    """Tell whether the headers of OpenSSL are there, without which the programs have no TLS."""
    probe = ["gcc", "-E", "-include", "openssl/ssl.h", "-x", "c", "/dev/null", "-o", "/dev/null"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def build() -> None:
    """Compile the C programs into ``build/``."""
    BUILD.mkdir(exist_ok=True)
    tls, libraries = (["-DBENCH_TLS"], ["-lssl", "-lcrypto"]) if has_openssl() else ([], [])
    for name in PROGRAMS:
        source, program = HERE / "c" / f"{name}.c", BUILD / name
        flags = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", *tls]
        subprocess.run(["gcc", *flags, str(source), "-o", str(program), *libraries], check=True)


def make_certificate() -> tuple[str, str]:
    """Make a certificate (ECDSA with P-256) and its key by the command `openssl`; returns the files, or empty names."""
    certificate, key = BUILD / "certificate.pem", BUILD / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "7",
    ]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    if shutil.which("openssl") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        return "", ""
    return str(certificate), str(key)


def _start(
    command: list[str], core: int, stdin: int, errors: IO[str], stdout: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=stdout,
        stderr=errors,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(END_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _name(command: list[str]) -> str:
    """Name the program of a command: the script, if the command runs one."""
    scripts = [argument for argument in command[:2] if argument.endswith(".py")]
    return Path((scripts or command)[0]).name


def _complaint(errors: IO[str]) -> str:
    """Tell the last line that a program wrote to standard error."""
    errors.seek(0)
    lines = [line for line in errors.read().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no message"


def _read_line(process: subprocess.Popen[str], name: str, errors: IO[str]) -> str:
    assert process.stdout is not None  # _start asked for a pipe
    readable, _, _ = select.select([process.stdout], [], [], START_LIMIT)
    line: str = process.stdout.readline() if readable else ""
    if line:
        return line.strip()
    if readable:
        raise MeasurementError(f"{name} ended before it was ready: {_complaint(errors)}")
    raise MeasurementError(f"{name} was not ready after {START_LIMIT:.0f} s")


@contextlib.contextmanager
def running(command: list[str], core: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a program on one core for as long as the context lasts; yields it and the first line that it printed.

    Raises:
        MeasurementError: the program ended, or was silent for too long, before its first line.
    """
    with tempfile.TemporaryFile("w+") as errors:
        process = _start(command, core, subprocess.PIPE, errors)
        try:
            line = _read_line(process, _name(command), errors)
            try:
                yield process, line
            except MeasurementError as failure:
                if process.poll() is None:
                    raise
                # Whoever measured it says only that it was gone.
                raise MeasurementError(f"{failure} ({_name(command)}: {_complaint(errors)})") from failure
        finally:
            _end(process)
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()


def free_port() -> int:
    """Find a TCP port of the loopback interface on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port: int = holder.getsockname()[1]
        return port


def _wait_for_port(process: subprocess.Popen[str], name: str, errors: IO[str], port: int) -> None:
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise MeasurementError(f"{name} ended before it took connections on port {port}: {_complaint(errors)}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(PORT_INTERVAL)
    raise MeasurementError(f"{name} took no connections on port {port} within {START_LIMIT:.0f} s")


@contextlib.contextmanager
def listening(command: list[str], core: int, port: int) -> Iterator[subprocess.Popen[str]]:
    """Run a program on one core that was told its port and need not print anything; yields it when it can be reached.

    Raises:
        MeasurementError: the program could not be started, ended, or took no connections for too long.
    """
    with tempfile.TemporaryFile("w+") as errors:
        try:
            process = _start(command, core, subprocess.DEVNULL, errors, subprocess.DEVNULL)
        except OSError as failure:
            raise MeasurementError(f"{_name(command)} could not be started: {failure.strerror}") from failure
        try:
            _wait_for_port(process, _name(command), errors, port)
            yield process
        finally:
            _end(process)


def measure(command: list[str], core: int, limit: float) -> dict[str, Any]:
    """Run a program on one core to its end and return the JSON object that it printed.

    Raises:
        MeasurementError: it ended with an error, printed no JSON, or took longer than ``limit`` seconds.
    """
    with tempfile.TemporaryFile("w+") as errors:
        process = _start(command, core, subprocess.DEVNULL, errors)
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            raise MeasurementError(f"{_name(command)} took more than {limit:.0f} s") from None
        finally:
            _end(process)
            if process.stdout:
                process.stdout.close()
        if process.returncode:
            raise MeasurementError(f"{_name(command)}: {_complaint(errors)}")
        try:
            figures: dict[str, Any] = json.loads(output)
        except ValueError:
            raise MeasurementError(f"{_name(command)} printed no JSON object") from None
        return figures
