"""Certificates for tests: a certificate authority made up for the session, a good certificate and the bad ones."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, in PEM files as `certfile=` and `keyfile=` take them."""

    certfile: str
    keyfile: str

    def server_context(self) -> ssl.SSLContext:
        """A fresh server-side context with this certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certfile, self.keyfile)
        return context


@dataclass(frozen=True)
class Certificates:
    """What a test of TLS needs.

    Attributes:
        ca_file: the authority's own certificate, in PEM.
        good: for localhost, 127.0.0.1 and ::1.
        expired: for the same, until yesterday.
        not_yet_valid: for the same, from tomorrow on.
        wrong_host: for elsewhere.example.
        self_signed: for the same as `good`, but by no authority.
        client: for a client that must show one.
    """

    ca_file: str
    good: Certificate
    expired: Certificate
    not_yet_valid: Certificate
    wrong_host: Certificate
    self_signed: Certificate
    client: Certificate

    def client_context(self) -> ssl.SSLContext:
        """A fresh client-side context that trusts the authority, and nothing else."""
        return ssl.create_default_context(cafile=self.ca_file)


def make_certificates(directory: Path) -> Certificates:
    """Make them all, with their files in `directory`."""
    authority = trustme.CA()
    ca_file = directory / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)

    def issued(name: str, leaf: trustme.LeafCert) -> Certificate:
        return _write(
            directory / name, b"".join(pem.bytes() for pem in leaf.cert_chain_pems), leaf.private_key_pem.bytes()
        )

    return Certificates(
        ca_file=str(ca_file),
        good=issued("good", authority.issue_cert(*HOSTS)),
        expired=issued("expired", authority.issue_cert(*HOSTS, not_before=now - 2 * day, not_after=now - day)),
        not_yet_valid=issued("early", authority.issue_cert(*HOSTS, not_before=now + day, not_after=now + 2 * day)),
        wrong_host=issued("elsewhere", authority.issue_cert("elsewhere.example")),
        self_signed=_self_signed(directory / "self", now - day, now + day),
        client=issued("client", authority.issue_cert("client@lapwing.example")),
    )


def _self_signed(stem: Path, start: datetime.datetime, end: datetime.datetime) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _write(
        stem,
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _write(stem: Path, certificate: bytes, key: bytes) -> Certificate:
    files = Certificate(str(stem.with_suffix(".pem")), str(stem.with_suffix(".key")))
    Path(files.certfile).write_bytes(certificate)
    Path(files.keyfile).write_bytes(key)
    return files
