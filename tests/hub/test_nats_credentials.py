"""Users of NATS that prove who they are with an nkey, or with the JWT of an operator's account and an nkey."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lapwing import Publisher
from lapwing.hub.engines import link
from lapwing.hub.engines.nats import NatsEngine
from lapwing.hub.engines.nats_credentials import Credentials
from lapwing.hub.engines.nats_url import NatsURL
from lapwing.hub.hub import Hub
from tests.docs.pages import block
from tests.hub.brokers import cannot_start, data_of, declare, until
from tests.hub.nats_servers import nats_server
from tests.peers.programs import free_port

ed25519 = pytest.importorskip(
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    reason="cryptography cannot be had for this Python",
    exc_type=ImportError,
)

#: The first bits of keys, by what they are of.
KINDS = {"operator": 14 << 3, "account": 0, "user": 20 << 3}

#: A seed and its public key, as the documentation of NATS has them.
SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


def encoded(data: bytes) -> str:
    """Keys as NATS writes them."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xFFFF
    return base64.b32encode(data + crc.to_bytes(2, "little")).rstrip(b"=").decode()


class Key:
    """An nkey.

    Args:
        kind: one of `KINDS`.
    """

    def __init__(self, kind: str) -> None:
        private = os.urandom(32)
        self._key = ed25519.Ed25519PrivateKey.from_private_bytes(private)
        bits = KINDS[kind]
        self.seed = encoded(bytes([18 << 3 | bits >> 5, (bits & 31) << 3]) + private)
        self.public = encoded(bytes([bits]) + self._key.public_key().public_bytes_raw())

    def jwt(self, kind: str, subject: Key, **claims: Any) -> str:
        """A JWT for another key, or this one, by which this one vouches for it."""
        body = {
            "jti": hashlib.sha256(subject.public.encode()).hexdigest(),
            "iat": int(time.time()),
            "iss": self.public,
            "sub": subject.public,
            "name": kind,
            "nats": {"type": kind, "version": 2, **claims},
        }
        parts = [_encoded_part(each) for each in ({"typ": "JWT", "alg": "ed25519-nkey"}, body)]
        parts.append(_unpadded(self._key.sign(".".join(parts).encode())))
        return ".".join(parts)


def _encoded_part(part: dict[str, Any]) -> str:
    return _unpadded(json.dumps(part).encode())


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def written(path: Path, key: Key, jwt: str = "") -> str:
    """Write a file as `nsc` does, or `nk`; returns its name."""
    text = f"{key.seed}\n"
    if jwt:
        text = (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\nKeep the seed secret.\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{key.seed}\n------END USER NKEY SEED------\n"
        )
    path.write_text(text, encoding="ascii")
    return str(path)


# --- nkeys -----------------------------------------------------------------------------------------------------------


def test_a_seed_gives_the_public_key_that_belongs_to_it(tmp_path: Path) -> None:
    (tmp_path / "user.nk").write_text(f"# of the hub\n  {SEED}  \n", encoding="ascii")
    credentials = Credentials.read(str(tmp_path / "user.nk"))
    answer = credentials.answer("nonce")
    assert answer["nkey"] == PUBLIC
    assert len(base64.urlsafe_b64decode(answer["sig"] + "==")) == 64
    assert repr(credentials) == str(credentials) == "Credentials(...)"


async def test_a_user_with_an_nkey(tmp_path: Path) -> None:
    user, stranger = Key("user"), Key("user")
    users = block("nats-nkey").replace("UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4", user.public)
    with nats_server(users) as server:
        url = f"{server.url}?credentials={written(tmp_path / 'user.nk', user)}"
        async with declare(Hub(url)) as hub, hub.subscribe("kept:1") as messages, Publisher(url) as publisher:
            await publisher.publish("kept:1", 1)
            assert await data_of(messages, 1) == [1]
            assert user.seed not in f"{hub._core.engine!r} {hub._core.engine._url!r} {hub.health}"  # type: ignore[attr-defined]
        await cannot_start(NatsEngine(server.url, timeout=60.0), "Authorization Violation")
        await cannot_start(
            NatsEngine(f"{server.url}?credentials={written(tmp_path / 'other.nk', stranger)}", timeout=60.0),
            "Authorization",
        )


async def test_a_file_that_is_replaced_counts_for_the_next_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_PROBE_EVERY", 0.1)
    one, other = Key("user"), Key("user")
    monitoring = free_port()
    users = f"authorization {{ users: [ {{ nkey: {one.public} }}, {{ nkey: {other.public} }} ] }}\n"

    def who() -> set[str]:
        page = f"http://127.0.0.1:{monitoring}/connz?auth=1"
        with urllib.request.urlopen(page, timeout=30) as answer:
            return {each["authorized_user"] for each in json.load(answer)["connections"]}

    with nats_server(f'{users}http: "127.0.0.1:{monitoring}"') as server:
        path = tmp_path / "user.nk"
        async with declare(Hub(f"{server.url}?credentials={written(path, one)}")) as hub:
            engine: Any = hub._core.engine
            assert who() == {one.public}
            path.unlink()
            engine._link._connection.transport.abort()
            await until(lambda: "cannot be read: No such file" in hub.health.why)
            written(path, other)
            await until(lambda: hub.health.is_up)
            assert who() == {other.public}
            await hub.publish("kept:1", 1)


# --- JWTs ------------------------------------------------------------------------------------------------------------


async def test_a_user_with_a_jwt_of_an_account(tmp_path: Path) -> None:
    operator, account, system, user, stranger = (
        Key(kind) for kind in ("operator", "account", "account", "user", "user")
    )
    everything = dict.fromkeys(
        ("subs", "data", "payload", "imports", "exports", "conn", "leaf", "mem_storage", "disk_storage", "streams"), -1
    )
    limits = {**everything, "consumer": -1, "wildcards": True}
    preloaded = {
        account.public: operator.jwt("account", account, limits=limits),
        system.public: operator.jwt("account", system),
    }
    resolver = "\n".join(f"  {public}: {jwt}" for public, jwt in preloaded.items())
    configuration = (
        f"operator: {operator.jwt('operator', operator)}\nsystem_account: {system.public}\n"
        f"resolver: MEMORY\nresolver_preload: {{\n{resolver}\n}}\n"
    )
    allowed: dict[str, Any] = {each: {} for each in ("pub", "sub")} | dict.fromkeys(("subs", "data", "payload"), -1)
    with nats_server(configuration) as server:
        path = written(tmp_path / "hub.creds", user, account.jwt("user", user, **allowed))
        async with (
            declare(Hub(f"{server.url}?credentials={path}")) as hub,
            declare(Hub(f"{server.url}?credentials={path}")) as other,
            hub.subscribe("kept:1") as messages,
        ):
            await other.publish("kept:1", 1)
            assert await data_of(messages, 1) == [1]
        forged = written(tmp_path / "forged.creds", stranger, account.jwt("user", user, **allowed))
        await cannot_start(NatsEngine(f"{server.url}?credentials={forged}", timeout=60.0), "Authorization Violation")


# --- what is wrong ---------------------------------------------------------------------------------------------------


async def test_a_server_that_asks_for_no_signature(tmp_path: Path) -> None:
    with nats_server() as server:
        url = f"{server.url}?credentials={written(tmp_path / 'user.nk', Key('user'))}"
        await cannot_start(
            NatsEngine(url, timeout=60.0), "asks for no signature: expected a server that knows nkeys or JWTs"
        )


FILES: dict[str, tuple[Callable[[Key], str], str]] = {
    "empty": (lambda key: "", "expected one line with an nkey's seed .SU...., found 0"),
    "two seeds": (lambda key: f"{key.seed}\n{SEED}\n", "found 2"),
    "public key": (lambda key: PUBLIC, "found 0"),
    "binary": (lambda key: "\xff", "expected a file of text"),
    "changed": (lambda key: SEED[:-3] + "AAA", "the checksum of the seed is wrong"),
    "of an account": (lambda key: Key("account").seed, r"expected the seed of a user \(SU...\), got SA"),
    "no end": (
        lambda key: f"-----BEGIN NATS USER JWT-----\na.b.c\n{key.seed}\n",
        "the JWT of the user cannot be found",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_wrong_are_refused_without_showing_secrets(name: str, tmp_path: Path) -> None:
    text, expected = FILES[name]
    key = Key("user")
    path = tmp_path / "user.creds"
    path.write_text(text(key), encoding="latin-1")
    with pytest.raises(ValueError, match=expected) as caught:
        NatsURL.parse(f"nats://h?credentials={path}")
    assert key.seed[4:] not in str(caught.value)


def test_a_url_says_one_thing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected either credentials= or a user in 'nats://\\*\\*\\*@h', got both"):
        NatsURL.parse(f"nats://ann:secret@h?credentials={written(tmp_path / 'user.nk', Key('user'))}")
    with pytest.raises(ValueError, match="credentials=/nowhere cannot be read: No such file"):
        NatsURL.parse("nats://h?credentials=/nowhere")


def test_the_library_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "user.nk", Key("user"))
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    with pytest.raises(ImportError, match="needs the library cryptography: pip install cryptography"):
        Hub(f"nats://h?credentials={path}")
