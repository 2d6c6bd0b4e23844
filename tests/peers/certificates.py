"""Certificates for tests: a certificate authority made up for the session, a good certificate and the bad ones."""

from __future__ import annotations

import datetime
import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.peers.needed import need

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
    """Make them all, with their files in `directory`, by the command `openssl`."""
    need("openssl")
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    authority = _request(directory / "ca", "lapwing's tests")
    _sign(authority, None, _AUTHORITY, now - day, now + day)

    def issued(name: str, *hosts: str, start: datetime.datetime = now - day, days: int = 2) -> Certificate:
        certificate = _request(directory / name, hosts[0])
        _sign(certificate, authority, _LEAF + _alternative_names(hosts), start, start + days * day)
        return certificate

    self_signed = _request(directory / "self", "localhost")
    _sign(self_signed, None, _alternative_names(["localhost"]), now - day, now + day)
    return Certificates(
        ca_file=authority.certfile,
        good=issued("good", *HOSTS),
        expired=issued("expired", *HOSTS, start=now - 2 * day, days=1),
        not_yet_valid=issued("early", *HOSTS, start=now + day, days=1),
        wrong_host=issued("elsewhere", "elsewhere.example"),
        self_signed=self_signed,
        client=issued("client", "client@lapwing.example"),
    )


_AUTHORITY = """
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""

_LEAF = """
basicConstraints = CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""

#: What `openssl ca` needs to know, in its own files beside the request.
_SETTINGS = """
[ca]
default_ca = settings
[settings]
database = {stem}.index
new_certs_dir = {stem}.issued
rand_serial = yes
unique_subject = no
default_md = sha256
policy = anything
x509_extensions = extensions
[anything]
commonName = supplied
[extensions]
{extensions}
"""


def _alternative_names(hosts: Sequence[str]) -> str:
    kinds = ["IP" if ":" in host or host[0].isdigit() else "email" if "@" in host else "DNS" for host in hosts]
    return "subjectAltName = " + ",".join(f"{kind}:{host}" for kind, host in zip(kinds, hosts, strict=True))


def _request(stem: Path, name: str) -> Certificate:
    """Make a key, and the request for a certificate that goes with it."""
    files = Certificate(f"{stem}.pem", f"{stem}.key")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    _openssl("req", "-new", *curve, "-nodes", "-subj", f"/CN={name}", "-keyout", files.keyfile, "-out", f"{stem}.csr")
    return files


def _sign(
    subject: Certificate,
    authority: Certificate | None,
    extensions: str,
    start: datetime.datetime,
    end: datetime.datetime,
) -> None:
    """Have a request granted by the authority, or by itself."""
    stem = subject.certfile.removesuffix(".pem")
    Path(f"{stem}.issued").mkdir()
    Path(f"{stem}.index").touch()
    Path(f"{stem}.cnf").write_text(_SETTINGS.format(stem=stem, extensions=extensions))
    signer = ["-selfsign"] if authority is None else ["-cert", authority.certfile]
    keyfile = subject.keyfile if authority is None else authority.keyfile
    dates = ["-startdate", f"{start:%Y%m%d%H%M%SZ}", "-enddate", f"{end:%Y%m%d%H%M%SZ}"]
    files = ["-config", f"{stem}.cnf", "-keyfile", keyfile, "-in", f"{stem}.csr", "-out", subject.certfile]
    _openssl("ca", "-batch", "-notext", *signer, *dates, *files)


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"openssl {arguments[0]} failed: {done.stderr}")
