"""Credentials files of NATS: an nkey's seed, with which the nonce of a server is signed, and perhaps a JWT of the user.

A file of `nsc` (`.creds`) has both between lines of dashes; one of `nk` has the seed alone. The seed is text in base32:
two bytes that say what it is of, 32 bytes of Ed25519, and a CRC-16. It is secret, and shown nowhere.
"""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Credentials"]

#: The first bits of keys: those of a seed, and of a user's.
_SEED: Final = 18 << 3
_USER: Final = 20 << 3

_SEED_LINE: Final = re.compile(r"^\s*(S[A-Z2-7]{57})\s*$", re.MULTILINE)
_JWT: Final = re.compile(r"^\s*-+BEGIN NATS USER JWT-+\s*([\w.-]+)\s*-+END NATS USER JWT-+\s*$", re.MULTILINE)


class Credentials(NamedTuple):
    """Who a client is.

    Attributes:
        seed: the 32 bytes of the private key.
        jwt: the server's word for who the user is; empty where it knows the public key itself.
    """

    seed: bytes
    jwt: str

    def __repr__(self) -> str:
        return "Credentials(...)"

    @classmethod
    def read(cls, path: str) -> Credentials:
        """Read a file.

        Raises:
            ValueError: it cannot be read, or is no such file; the message has no secrets.
            ImportError: the library that signs is missing.
        """
        import_library()
        try:
            text = Path(path).read_text(encoding="ascii")
        except UnicodeDecodeError:
            raise ValueError(f"credentials={path}: expected a file of text with an nkey's seed") from None
        except OSError as error:
            raise ValueError(f"credentials={path} cannot be read: {error.strerror or error}") from None
        seeds = _SEED_LINE.findall(text)
        if len(seeds) != 1:
            raise ValueError(f"credentials={path}: expected one line with an nkey's seed (SU...), found {len(seeds)}")
        jwt = _JWT.search(text)
        if jwt is None and "JWT" in text:
            raise ValueError(f"credentials={path}: the JWT of the user cannot be found between its lines of dashes")
        return cls(_seed_of(seeds[0], path), jwt[1] if jwt else "")

    def answer(self, nonce: str) -> dict[str, str]:
        """The part of CONNECT that proves to a server who this is."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = Ed25519PrivateKey.from_private_bytes(self.seed)
        signature = base64.urlsafe_b64encode(key.sign(nonce.encode())).rstrip(b"=").decode()
        if self.jwt:
            return {"jwt": self.jwt, "sig": signature}
        return {"nkey": _encoded(bytes([_USER]) + key.public_key().public_bytes_raw()), "sig": signature}


def import_library() -> None:
    """Import the library that signs, which only hubs with credentials need.

    Raises:
        ImportError: it is missing; the message says what to do.
    """
    try:
        import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401
    except ImportError as error:
        raise ImportError("credentials= of NATS needs the library cryptography: pip install cryptography") from error


def _seed_of(text: str, path: str) -> bytes:
    data = base64.b32decode(text + "=" * (-len(text) % 8))
    if binascii.crc_hqx(data[:-2], 0) != int.from_bytes(data[-2:], "little"):
        raise ValueError(f"credentials={path}: the checksum of the seed is wrong: a character was changed")
    kind = (data[0] & 7) << 5 | data[1] >> 3
    if data[0] & 0xF8 != _SEED or kind != _USER:
        raise ValueError(f"credentials={path}: expected the seed of a user (SU...), got {text[:2]}...")
    return data[2:-2]


def _encoded(data: bytes) -> str:
    data += binascii.crc_hqx(data, 0).to_bytes(2, "little")
    return base64.b32encode(data).rstrip(b"=").decode()
