"""The good certificate is taken, and each bad one is refused for what is wrong with it."""

from __future__ import annotations

import ssl
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.peers.certificates import HOSTS, Certificate, Certificates
from tests.peers.raw import RawListener, RawPeer


def _shake_hands(tls: Certificates, certificate: Certificate, host: str) -> None:
    with RawListener(context=certificate.server_context()) as listener, ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(listener.accept_bare)
        try:
            client = RawPeer.open(listener.port)
            with client, tls.client_context().wrap_socket(client.sock, server_hostname=host) as sock:
                client.sock = sock
                accepted.result().close()
        except ssl.SSLError:
            with pytest.raises(OSError):  # the server hears of it, too
                accepted.result()
            raise


@pytest.mark.parametrize("host", HOSTS)
def test_the_good_one(tls: Certificates, host: str) -> None:
    _shake_hands(tls, tls.good, host)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("expired", "certificate has expired"),
        ("not_yet_valid", "not yet valid"),
        ("wrong_host", "Hostname mismatch"),
        ("self_signed", "self.signed certificate"),
    ],
)
def test_the_bad_ones(tls: Certificates, name: str, complaint: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=complaint):
        _shake_hands(tls, getattr(tls, name), "localhost")


def test_a_client_that_shows_a_certificate(tls: Certificates) -> None:
    demanding = tls.good.server_context()
    demanding.verify_mode = ssl.CERT_REQUIRED
    demanding.load_verify_locations(tls.ca_file)
    showing = tls.client_context()
    showing.load_cert_chain(tls.client.certfile, tls.client.keyfile)
    with RawListener(context=demanding) as listener, ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(listener.accept_bare)
        with RawPeer.open(listener.port, context=showing), accepted.result() as server:
            assert isinstance(server.sock, ssl.SSLSocket)
            assert server.sock.getpeercert()
