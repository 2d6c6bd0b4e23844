"""The options that commands share, and what they say when they cannot connect."""

from __future__ import annotations

import argparse
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import lapwing
from lapwing.cli import connecting, main
from lapwing.cli.outcome import Failed, Status
from lapwing.options import ClientSettings, settings_from
from tests.peers.certificates import Certificates
from tests.peers.servers import ServerThread


def _parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    connecting.add_arguments(parser)
    return parser.parse_args(words)


def _target(*words: str) -> tuple[str, dict[str, Any]]:
    url, options = connecting.target(_parsed(*words))
    # The library takes all of them.
    settings_from(ClientSettings, {name: value for name, value in options.items() if name != "protocol"})
    return url, options


def test_options_become_those_of_connect(tmp_path: Path) -> None:
    (tmp_path / "headers").write_text("X-B: 2\n\nX-C:3\n", encoding="utf-8")
    url, options = _target(
        *("ws://user:secret@host/path", "-H", "X-A: 1", "-H", f"@{tmp_path / 'headers'}", "-s", "chat", "-s", "a,b"),
        *("-o", "https://example.com", "--no-compress", "--max-redirects", "0", "--connect-timeout", "3"),
        *("--ping-interval", "0", "--max-message-size", "0", "-x", "socks5h://localhost"),
    )
    assert url == "ws://user:secret@host/path"
    assert options == {
        "protocol": ["chat", "a", "b"],
        "headers": [("X-A", "1"), ("X-B", "2"), ("X-C", "3")],
        "origin": "https://example.com",
        "compression": False,
        "max_redirects": 0,
        "open_timeout": 3.0,
        "ping_interval": None,
        "max_message_size": None,
        "proxy": "socks5h://localhost",
    }


def test_without_options_the_library_has_its_way() -> None:
    _, options = _target("wss://host")
    assert options["proxy"] is True
    assert options["protocol"] is None
    assert options["ssl"] is None
    assert options["compression"] is True
    assert _target("ws://host", "--no-proxy")[1]["proxy"] is False


def test_user_is_basic_authentication(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _target("ws://h", "-u", "me:pass:word")[1]["headers"] == [
        ("Authorization", "Basic " + b64encode(b"me:pass:word").decode())
    ]
    monkeypatch.setattr("getpass.getpass", lambda prompt: "typed")
    assert _target("ws://h", "-u", "me")[1]["headers"] == [
        ("Authorization", "Basic " + b64encode(b"me:typed").decode())
    ]


def test_insecure_and_cacert_make_contexts(tls: Certificates) -> None:
    context = _target("wss://h", "-k")[1]["ssl"]
    assert context.verify_mode is ssl.CERT_NONE
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    context = _target("wss://h", "--cacert", str(tls.ca_file), "--cert", tls.good.certfile, "--key", tls.good.keyfile)
    assert context[1]["ssl"].verify_mode is ssl.CERT_REQUIRED
    assert context[1]["ssl"].cert_store_stats()["x509_ca"] == 1
    proxied = _target("ws://h", "-x", "https://proxy", "--proxy-insecure")[1]
    assert proxied["proxy_ssl"].verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["http://h"], "did you mean 'ws://h'?"),
        (["ws://h", "-H", "Key secret"], "--header: expected 'NAME: VALUE' or @FILE, got no colon behind 'Key'"),
        (["ws://h", "-H", ": secret"], "--header: expected 'NAME: VALUE' or @FILE, got no name before the colon"),
        (["ws://u:/secret@h"], "in a user name or password write %23"),
        (["ws://h", "-H", "@/nonexistent"], "--header: cannot read '/nonexistent'"),
        (["ws://h", "-u", "a:b", "-H", "authorization: x"], "got both"),
        (["ws://h", "-k"], "--insecure is for TLS: use wss://"),
        (["ws://h", "--cert", "x"], "--cert is for TLS"),
        (["wss://h", "-k", "--cacert", "x"], "got both"),
        (["wss://h", "--key", "x"], "--key: expected its certificate"),
        (["wss://h", "--cacert", "/nonexistent"], "--cacert: cannot use '/nonexistent'"),
        (["wss://h", "--cert", "/nonexistent"], "--cert: cannot use '/nonexistent'"),
        (["ws://h", "--proxy-insecure"], "are for --proxy https://"),
        (["ws://h", "--connect-timeout", "0"], "--connect-timeout: expected more than 0"),
        (["ws://h", "--unix-socket", "/s", "-x", "http://p"], "--unix-socket: leave out the proxy"),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], complaint: str) -> None:
    with pytest.raises(Failed) as failed:
        _target(*words)
    assert complaint in str(failed.value)
    assert failed.value.status == Status.USAGE


def test_a_certificate_whose_key_is_in_another_file(tls: Certificates) -> None:
    with pytest.raises(Failed, match=r"Is the key in another file\? Pass --key FILE, too\."):
        _target("wss://h", "--cert", tls.client.certfile)
    with pytest.raises(Failed) as failed:
        _target("wss://h", "--cert", "/nonexistent")
    assert "another file" not in str(failed.value)
    with pytest.raises(Failed, match=r"\. The key in --key belongs to another certificate\.$"):
        _target("wss://h", "--cert", tls.client.certfile, "--key", tls.good.keyfile)


def test_times(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("-1", "soon", "nan", "inf"):
        with pytest.raises(SystemExit):
            _parsed("ws://h", f"--connect-timeout={wrong}")
        assert "expected a number of seconds, 0 or more" in capsys.readouterr().err
    assert connecting.patience("forever") is None
    assert connecting.patience("2") == 2.0


def test_what_was_given() -> None:
    assert connecting.given(_parsed("ws://h")) == []
    assert connecting.given(_parsed("ws://h", "-H", "A: b", "--no-compress")) == ["--header", "--compress"]


async def test_a_unix_socket(tmp_path: Path) -> None:
    seen = []

    async def handler(ws: lapwing.Connection) -> None:
        assert ws.request is not None
        seen.append((ws.request.headers["Host"], ws.request.target, ws.request.headers["Authorization"]))

    path = tmp_path / "a socket:1"
    async with lapwing.listen(unix=path, default=handler):
        url, options = _target("ws://me:pw@example.com:8000/x?y=1", "--unix-socket", str(path))
        async with lapwing.connect(url, **options) as ws:
            assert await ws.receive() is None
    assert seen == [("example.com:8000", "/x?y=1", "Basic " + b64encode(b"me:pw").decode())]


# --- failures --------------------------------------------------------------------------------------------------------


def _complaint(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Run the command, which is to fail with a single line."""
    status = main(["ping", "-c", "1", *words])
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("lapwing ping: ")
    assert told.err.count("\n") == 1
    return status, told.err


@contextmanager
def _answering(answer: bytes) -> Iterator[int]:
    """A server that says one thing to one client."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with listening.accept()[0] as sock:
                sock.recv(4096)
                sock.sendall(answer)

        thread = Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


def test_nothing_listens(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    status, told = _complaint(capsys, f"ws://127.0.0.1:{port}")
    assert status == Status.NOT_CONNECTED
    assert "nothing listens there. Is the server running" in told


@pytest.mark.parametrize(
    ("variable", "value"), [("http_proxy", "http://127.0.0.1:{}"), ("ALL_PROXY", "socks5h://127.0.0.1:{}")]
)
def test_a_proxy_that_is_not_there_is_named_with_its_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    monkeypatch.setenv(variable, value.format(port))
    monkeypatch.delenv("no_proxy", raising=False)
    status, told = _complaint(capsys, "ws://server.example")
    assert status == Status.NOT_CONNECTED
    assert f"cannot connect to the proxy (from {variable}) 127.0.0.1:{port}: nothing listens there" in told


def test_a_proxy_that_answers_nonsense_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with _answering(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n") as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        status, told = _complaint(capsys, "ws://server.example")
    assert status == Status.NOT_CONNECTED
    assert f"the proxy http://127.0.0.1:{port} (from http_proxy)" in told


def test_no_answer_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"ws://127.0.0.1:{listening.getsockname()[1]}"
        status, told = _complaint(capsys, url, "--connect-timeout", "0.05")
    assert status == Status.NOT_CONNECTED
    assert "no open connection within 0.05 s. --connect-timeout SECONDS waits longer." in told


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        ("401 Unauthorized", Status.REFUSED, "--user NAME:PASSWORD"),
        ("403 Forbidden", Status.REFUSED, "--origin"),
        ("404 Not Found", Status.REFUSED, "Check the path"),
        ("503 Service Unavailable", Status.REFUSED, "Try again later"),
        ("200 OK", Status.REFUSED, "200 OK"),
    ],
)
def test_the_server_refuses(answer: str, status: Status, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with _answering(f"HTTP/1.1 {answer}\r\nContent-Length: 5\r\n\r\n\x1b[2Jx".encode()) as port:
        got, told = _complaint(capsys, f"ws://127.0.0.1:{port}/")
    assert got == status
    assert words in told
    assert "\x1b" not in told


def test_not_tls(capsys: pytest.CaptureFixture[str], server: ServerThread) -> None:
    status, told = _complaint(capsys, f"wss://127.0.0.1:{server.port}")
    assert status == Status.NOT_CONNECTED
    assert "does not speak TLS. Use ws://" in told


def test_certificates(
    capsys: pytest.CaptureFixture[str], serve_talk: Callable[..., ServerThread], tls: Certificates
) -> None:
    server = serve_talk(ssl=tls.good.server_context())
    status, told = _complaint(capsys, server.url)
    assert status == Status.NOT_CONNECTED
    assert "certificate not trusted (" in told
    assert "--cacert FILE to trust its authority, or --insecure for a test server" in told
    _, told = _complaint(capsys, server.url, "--cacert", str(tls.ca_file), "--server-name", "other.example")
    assert "--server-name NAME if it is known by another name" in told
    for trusting in (["--cacert", str(tls.ca_file)], ["--insecure"]):
        assert main(["ping", "-c", "1", server.url, *trusting]) == Status.OK
    capsys.readouterr()


def test_a_proxy_that_is_none(capsys: pytest.CaptureFixture[str], server: ServerThread) -> None:
    with _answering(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n") as port:
        status, told = _complaint(capsys, server.url, "-x", f"http://127.0.0.1:{port}")
    assert status == Status.NOT_CONNECTED
    assert "--proxy http://NAME:PASSWORD@HOST:PORT" in told
    with _answering(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n") as port:
        status, told = _complaint(capsys, server.url, "-x", f"http://127.0.0.1:{port}")
    assert "--no-proxy connects directly" in told


def test_an_option_that_the_library_refuses(capsys: pytest.CaptureFixture[str], server: ServerThread) -> None:
    status, told = _complaint(capsys, server.url, "-H", "Upgrade: websocket")
    assert status == Status.USAGE
    assert "Upgrade" in told
