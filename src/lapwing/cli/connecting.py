"""What all commands that go to a server share: the options, named as curl and wscat name them, and what failures mean.

`add_arguments` declares URL and options; `target` turns the parsed arguments into those of `lapwing.connect`; within
`explained` a failure to connect becomes a `Failed` of one line that names the next step::

    url, options = connecting.target(arguments)
    with connecting.explained(arguments):
        ws = await lapwing.connect(url, **options)
"""

from __future__ import annotations

import argparse
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .escapes import neutralise
from .outcome import Failed, Status

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from lapwing.protocol import URL, HandshakeError

__all__ = ["add_arguments", "cause", "explained", "given", "is_url", "patience", "seconds", "target"]

#: Bytes that a received message may have by default: more than the library's, since it does not serve thousands of
#: clients.
MAX_MESSAGE_SIZE = 64 * 1024 * 1024

#: The remedy for a status.
_STEPS = {
    401: "Pass --user NAME:PASSWORD, or --header 'Authorization: Bearer TOKEN'.",
    403: "Perhaps it expects an --origin, or credentials in --user or --header.",
    404: "Check the path of the URL.",
    407: "Name the proxy with its credentials: --proxy http://NAME:PASSWORD@HOST:PORT.",
    429: "Try again later.",
    503: "Try again later.",
}


def add_arguments(parser: argparse.ArgumentParser, *, url: bool = True) -> None:
    """Declare the URL and the options of a connection.

    Args:
        parser: the command's.
        url: whether the URL is demanded; where it is not, the command declares its own argument `url`.
    """
    if url:
        parser.add_argument("url", metavar="URL", help="ws://HOST[:PORT]/PATH, wss:// for TLS, ws+unix://SOCKET:/PATH")
    _add_handshake(parser.add_argument_group("handshake"))
    _add_tls(parser.add_argument_group("TLS"))
    _add_way(parser.add_argument_group("proxy and route"))
    group = parser.add_argument_group("limits")
    group.add_argument(
        "--connect-timeout",
        type=seconds,
        default=10.0,
        metavar="SECONDS",
        help="time limit for connecting, up to the open connection (default 10)",
    )
    group.add_argument(
        "--ping-interval",
        type=seconds,
        default=20.0,
        metavar="SECONDS",
        help="seconds of silence before a ping is sent, 0 for no pings (default 20)",
    )
    group.add_argument(
        "--max-message-size",
        type=int,
        default=MAX_MESSAGE_SIZE,
        metavar="BYTES",
        help="limit of a received message, 0 for no limit (default 64 MiB)",
    )


def _add_handshake(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-H",
        "--header",
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="a header field for the request, or @FILE with one per line; repeatable",
    )
    group.add_argument(
        "-s",
        "--subprotocol",
        action="append",
        default=[],
        metavar="NAME",
        help="a subprotocol to offer; repeatable, in order of preference",
    )
    group.add_argument("-o", "--origin", metavar="ORIGIN", help="the Origin header, as sent by a browser")
    group.add_argument(
        "-u", "--user", metavar="NAME:PASSWORD", help="Basic authentication; without :PASSWORD the command asks for it"
    )
    group.add_argument(
        "--compress",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="offer permessage-deflate (the default), or do not",
    )
    group.add_argument(
        "--max-redirects", type=int, default=10, metavar="N", help="redirects to follow, 0 for none (default 10)"
    )


def _add_tls(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-k", "--insecure", action="store_true", help="accept any certificate: not secure, for test servers only"
    )
    group.add_argument("--cacert", metavar="FILE", help="trust the authorities in this file (PEM), not the system's")
    group.add_argument("-E", "--cert", metavar="FILE", help="the client's certificate (PEM), which may include its key")
    group.add_argument("--key", metavar="FILE", help="the key of --cert (PEM)")
    group.add_argument("--server-name", metavar="NAME", help="the expected name in the server's certificate")


def _add_way(group: argparse._ArgumentGroup) -> None:
    proxy = group.add_mutually_exclusive_group()
    proxy.add_argument(
        "-x",
        "--proxy",
        metavar="URL",
        help="http://, https://, socks4://, socks4a://, socks5:// or socks5h://[NAME:PASSWORD@]HOST:PORT "
        "(default: from the environment, such as https_proxy)",
    )
    proxy.add_argument("--no-proxy", action="store_true", help="connect directly, also if the environment has a proxy")
    group.add_argument("--proxy-insecure", action="store_true", help="--insecure for an https:// proxy")
    group.add_argument("--proxy-cacert", metavar="FILE", help="--cacert for an https:// proxy")
    group.add_argument(
        "--unix-socket", metavar="PATH", help="connect to this socket; the URL only provides the request"
    )


def seconds(text: str) -> float:
    """Parse a time of 0 seconds or more, for `type=`.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds, 0 or more, got {text!r}")
    return value


def patience(text: str) -> float | None:
    """Parse a time, or "forever" as None, for `type=`.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    return None if text in ("forever", "inf") else seconds(text)


def given(arguments: argparse.Namespace) -> list[str]:
    """Return the options of this module that differ from their defaults, by their long names."""
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser, url=False)
    defaults = vars(parser.parse_args([]))
    return [f"--{name.replace('_', '-')}" for name, value in defaults.items() if getattr(arguments, name) != value]


def is_url(text: str) -> bool:
    """Tell whether an argument is meant as the URL of a server, rather than as a file."""
    return re.match(r"(wss?(\+unix)?|https?)://", text, re.IGNORECASE) is not None


def target(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Make of the parsed arguments what `lapwing.connect` takes: the URL, and the options, `protocol` among them.

    Raises:
        Failed: an argument makes no sense, or a file cannot be used.
    """
    from lapwing.protocol import InvalidURL, parse_url

    try:
        url = parse_url(arguments.url)
    except InvalidURL as error:
        raise Failed(str(error)) from None
    options: dict[str, Any] = {
        "protocol": _subprotocols(arguments.subprotocol),
        "headers": _headers(arguments),
        "origin": arguments.origin,
        "compression": arguments.compress,
        "max_redirects": arguments.max_redirects,
        "open_timeout": arguments.connect_timeout or None,
        "ping_interval": arguments.ping_interval or None,
        "max_message_size": arguments.max_message_size or None,
        "proxy": False if arguments.no_proxy else arguments.proxy or True,
    }
    if not options["open_timeout"]:
        raise Failed("--connect-timeout: expected more than 0 seconds")
    if url.secure:
        options["ssl"] = _context(arguments)
        options["server_hostname"] = arguments.server_name
    else:
        _refuse_tls(arguments)
    if arguments.proxy_insecure or arguments.proxy_cacert:
        if not (arguments.proxy or "").lower().startswith("https:"):
            raise Failed("--proxy-insecure and --proxy-cacert are for --proxy https://...: leave them out")
        options["proxy_ssl"] = _trust(arguments.proxy_cacert, arguments.proxy_insecure, "--proxy-cacert")
    if arguments.unix_socket:
        return _through_unix(url, arguments, options), options
    return arguments.url, options


def _subprotocols(given: list[str]) -> list[str] | None:
    return [name.strip() for value in given for name in value.split(",")] or None


def _headers(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    headers = []
    for value in arguments.header:
        if value.startswith("@"):
            headers += [_header(line) for line in _lines(value[1:]) if line.strip()]
        else:
            headers.append(_header(value))
    if arguments.user is not None:
        if any(name.lower() == "authorization" for name, _ in headers):
            raise Failed("expected either --user or --header 'Authorization: ...', got both")
        headers.append(("Authorization", _basic(arguments.user)))
    return headers


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        # The value may be a secret, and this output may be kept in the log of a job.
        got = "no name before the colon" if colon else f"no colon behind {re.split(r'[^A-Za-z0-9_-]', text)[0]!r}"
        raise Failed(f"--header: expected 'NAME: VALUE' or @FILE, got {got}")
    return name.strip(), value.strip()


def _lines(name: str) -> list[str]:
    try:
        return Path(name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"--header: cannot read {name!r}: {error}") from None


def _basic(user: str) -> str:
    """Make the credentials of the Basic scheme (RFC 7617)."""
    from base64 import b64encode

    if ":" not in user:
        from getpass import getpass

        user = f"{user}:{getpass(f'Password of {user}: ')}"
    return "Basic " + b64encode(user.encode()).decode()


def _refuse_tls(arguments: argparse.Namespace) -> None:
    given = {
        "--insecure": arguments.insecure,
        "--cacert": arguments.cacert,
        "--cert": arguments.cert,
        "--key": arguments.key,
        "--server-name": arguments.server_name,
    }
    for name, value in given.items():
        if value:
            raise Failed(f"{name} is for TLS: use wss:// rather than ws://, or leave it out")


def _context(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    """Make the context of TLS that the options ask for; None for the library's own."""
    if arguments.key and not arguments.cert:
        raise Failed("--key: expected its certificate, in --cert")
    if not (arguments.insecure or arguments.cacert or arguments.cert):
        return None
    import ssl

    context = _trust(arguments.cacert, arguments.insecure, "--cacert")
    if arguments.cert:
        try:
            context.load_cert_chain(arguments.cert, arguments.key)
        except OSError as error:  # an SSLError is one
            hint = ""
            if isinstance(error, ssl.SSLError) and not arguments.key:
                hint = ". Is the key in another file? Pass --key FILE, too."
            elif isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
                hint = ". The key in --key belongs to another certificate."
            raise Failed(f"--cert: cannot use {arguments.cert!r} as a certificate in PEM form: {error}{hint}") from None
    return context


def _trust(cafile: str | None, insecure: bool, option: str) -> ssl.SSLContext:
    import ssl

    if cafile and insecure:
        raise Failed(f"expected either {option} or its --insecure, got both")
    try:
        context = ssl.create_default_context(cafile=cafile)
    except OSError as error:
        raise Failed(f"{option}: cannot use {cafile!r} as certificates in PEM form: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _through_unix(url: URL, arguments: argparse.Namespace, options: dict[str, Any]) -> str:
    """Make the URL that leads through a unix socket; the host of the given one goes into Host and the certificate."""
    if arguments.proxy or url.unix_path is not None:
        raise Failed("--unix-socket: leave out the proxy, and give a URL with ws:// or wss://")
    named = {name.lower() for name, _ in options["headers"]}
    if url.userinfo is not None and "authorization" not in named:
        options["headers"].append(("Authorization", _basic(":".join(url.userinfo))))
    if "host" not in named:
        options["headers"].append(("Host", url.host_header))
    if url.secure:
        options["server_hostname"] = arguments.server_name or url.host
    return url._replace(unix_path=str(Path(arguments.unix_socket).absolute())).complete


@contextmanager
def explained(arguments: argparse.Namespace) -> Iterator[None]:
    """Turn a failure to connect into a `Failed` of one line with its cause and a remedy."""
    try:
        yield
    except Exception as error:
        from lapwing import ConnectionClosed, HandshakeError

        if isinstance(error, HandshakeError):
            raise _explain_refusal(error) from error
        # It did connect, and there is no connecting again.
        if isinstance(error, ConnectionClosed) or not isinstance(error, (OSError, ValueError, TypeError)):
            raise
        raise explain(error, arguments) from error


def cause(error: Exception) -> str:
    """Put an error into one line that is safe to print."""
    return neutralise(getattr(error, "strerror", None) or str(error), one_line=True)


def explain(error: OSError | ValueError | TypeError, arguments: argparse.Namespace) -> Failed:
    """Describe the failure of an attempt to connect."""
    if isinstance(error, (ValueError, TypeError)) and not isinstance(error, OSError):
        return Failed(neutralise(str(error), one_line=True))
    import ssl

    words = cause(error)
    if "pass that as ssl=" in words:  # the remedy of a program
        words = (
            words.partition(" To present one,")[0] + " Pass --cert FILE, and --key FILE if the key is in another file."
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return _explain_certificate(error)
    if isinstance(error, TimeoutError) and error.errno is None:
        words = f"no open connection within {arguments.connect_timeout:g} s. --connect-timeout SECONDS waits longer."
    return Failed(words, Status.NOT_CONNECTED)


def _explain_certificate(error: ssl.SSLCertVerificationError) -> Failed:
    if "proxy" in (error.strerror or ""):
        return Failed(
            f"the proxy's certificate is not trusted ({error.verify_message}). --proxy-cacert FILE trusts its "
            "authority, --proxy-insecure any certificate.",
            Status.NOT_CONNECTED,
        )
    if error.verify_code in (62, 64):  # another name, another IP address
        step = "Pass --server-name NAME if it is known by another name, or --insecure for a test server."
    else:
        step = "Pass --cacert FILE to trust its authority, or --insecure for a test server."
    return Failed(f"certificate not trusted ({error.verify_message}). {step}", Status.NOT_CONNECTED)


def _explain_refusal(error: HandshakeError) -> Failed:
    from lapwing import ProxyError

    words = neutralise(str(error), one_line=True)
    status = Status.NOT_CONNECTED if isinstance(error, ProxyError) or error.status is None else Status.REFUSED
    step = _STEPS.get(error.status or 0)
    if isinstance(error, ProxyError) and error.status != 407:
        step = "--no-proxy connects directly."
    return Failed(f"{words.rstrip('.')}. {step}" if step else words, status)
