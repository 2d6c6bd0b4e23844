"""permessage-deflate in the opening handshake (RFC 7692 sections 5 and 7.1)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)

from lapwing.protocol import (
    ClientDeflate,
    ClientHandshake,
    Deflate,
    ExtensionOffer,
    HandshakeError,
    Headers,
    ServerDeflate,
    ServerHandshake,
    ServerPolicy,
    format_extensions,
    parse_extensions,
    parse_url,
)
from tests.peers import wire

NAME = "permessage-deflate"
BITS = range(8, 16)

FORGETFUL = f"{NAME}; server_no_context_takeover; client_no_context_takeover"

#: The User-Agent of a browser.
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


def answer(offers: str, settings: Deflate | None = None, user_agent: str | None = BROWSER) -> str | None:
    """What a server says to the offers of a client; None when it agrees to nothing."""
    policy = ServerPolicy(subprotocols=[], default=True, extensions=[(settings or Deflate()).for_server])
    handshake = ServerHandshake(policy)
    headers = [("Sec-WebSocket-Extensions", offers)]
    if user_agent is not None:
        headers.append(("User-Agent", user_agent))
    handshake.receive_data(wire.request("localhost", headers=headers))
    assert handshake.response is not None
    assert handshake.response.status == 101
    assert len(handshake.extensions) == len(handshake.response.headers.get_all("Sec-WebSocket-Extensions"))
    return handshake.response.headers.get("Sec-WebSocket-Extensions")


def agreed(offer: str, settings: Deflate) -> tuple[bool, bool, int, int]:
    """What a server goes by: context takeover and window of what it sends and of what it receives."""
    answered = settings.for_server.respond(parse_extensions(offer)[0])
    assert answered is not None
    codec = answered[1]
    return codec.keeps_outgoing, codec.keeps_incoming, codec.outgoing_window_bits, codec.incoming_window_bits


def accept(response: str, settings: Deflate | None = None) -> tuple[bool, bool, int, int]:
    """What a client goes by after this response."""
    (offer,) = parse_extensions(response)
    codec = (settings or Deflate()).for_client.accept(offer.parameters)
    return codec.keeps_outgoing, codec.keeps_incoming, codec.outgoing_window_bits, codec.incoming_window_bits


# --- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"level": 0}, ValueError),
        ({"level": 10}, ValueError),
        ({"level": "6"}, TypeError),
        ({"level": True}, TypeError),
        ({"memory_level": 0}, ValueError),
        ({"memory_level": None}, TypeError),
        ({"threshold": -1}, ValueError),
        ({"threshold": 1.5}, TypeError),
        ({"context_takeover": 1}, TypeError),
        ({"peer_context_takeover": 0}, TypeError),
        ({"peer_context_takeover": "no"}, TypeError),
        ({"server_max_window_bits": 8}, ValueError),
        ({"server_max_window_bits": 16}, ValueError),
        ({"client_max_window_bits": 0}, ValueError),
        ({"client_max_window_bits": "15"}, TypeError),
        ({"window": 15}, TypeError),
    ],
    ids=repr,
)
def test_wrong_settings(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Deflate(**arguments)


def test_a_window_of_8_bits_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"expected server_max_window_bits .* from 9 to 15, or None, got 8: zlib"):
        Deflate(server_max_window_bits=8)


# --- offers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "offer"),
    [
        ({}, f"{FORGETFUL}; client_max_window_bits"),
        ({"context_takeover": True}, f"{NAME}; client_max_window_bits"),
        (
            {"context_takeover": True, "server_max_window_bits": 10, "client_max_window_bits": 11},
            f"{NAME}; server_max_window_bits=10; client_max_window_bits=11",
        ),
        ({"peer_context_takeover": True}, f"{NAME}; client_no_context_takeover; client_max_window_bits"),
        ({"peer_context_takeover": False}, f"{FORGETFUL}; client_max_window_bits"),
        (
            {"context_takeover": True, "peer_context_takeover": False},
            f"{NAME}; server_no_context_takeover; client_max_window_bits",
        ),
    ],
)
def test_offers(settings: dict[str, Any], offer: str) -> None:
    assert format_extensions([ClientDeflate(Deflate(**settings)).offer()]) == offer


@pytest.mark.parametrize(
    ("settings", "fallback"),
    [
        ({}, f"{NAME}; client_max_window_bits"),
        ({"client_max_window_bits": 11}, f"{NAME}; client_max_window_bits=11"),
        ({"context_takeover": True, "server_max_window_bits": 10}, f"{NAME}; client_max_window_bits"),
        ({"context_takeover": True}, None),
        ({"peer_context_takeover": True}, None),
        ({"peer_context_takeover": False}, None),
    ],
)
def test_the_second_offer_has_no_wishes(settings: dict[str, Any], fallback: str | None) -> None:
    """Netty's server declines `server_no_context_takeover` and `server_max_window_bits`."""
    extension = ClientDeflate(Deflate(**settings))
    handshake = ClientHandshake(parse_url("ws://localhost"), nonce=bytes(16), extensions=[extension])
    first = format_extensions([extension.offer()])
    assert handshake.request.headers["Sec-WebSocket-Extensions"] == (f"{first}, {fallback}" if fallback else first)
    once = ClientHandshake(parse_url("ws://localhost"), nonce=bytes(16), extensions=[extension], fallbacks=False)
    assert once.request.headers["Sec-WebSocket-Extensions"] == first


@pytest.mark.parametrize(
    ("offer", "response"),
    [
        (NAME, FORGETFUL),
        (f"{NAME}; client_max_window_bits", FORGETFUL),
        (f'{NAME}; client_max_window_bits="10"', f"{FORGETFUL}; client_max_window_bits=10"),
        (f"{NAME}; client_max_window_bits=8", f"{FORGETFUL}; client_max_window_bits=8"),
        (f"{NAME}; server_max_window_bits=9", f"{FORGETFUL}; server_max_window_bits=9"),
        (f"{NAME}; server_no_context_takeover; client_no_context_takeover", FORGETFUL),
        # Section 5.1: several offers; the first that is acceptable counts.
        (
            f"{NAME}; server_max_window_bits=8, {NAME}; server_max_window_bits=10",
            f"{FORGETFUL}; server_max_window_bits=10",
        ),
        (f"{NAME}; x, {NAME}", FORGETFUL),
        (f"{NAME}, {NAME}; server_max_window_bits=10", FORGETFUL),
        (f"x-other; a=b, {NAME}", FORGETFUL),
    ],
)
def test_offers_that_are_accepted(offer: str, response: str) -> None:
    assert answer(offer) == response


@pytest.mark.parametrize(
    ("settings", "offer", "response"),
    [
        ({}, NAME, NAME),
        ({}, f"{NAME}; server_no_context_takeover", f"{NAME}; server_no_context_takeover"),
        ({}, f"{NAME}; client_no_context_takeover", f"{NAME}; client_no_context_takeover"),
        ({"server_max_window_bits": 10}, NAME, f"{NAME}; server_max_window_bits=10"),
        ({"server_max_window_bits": 10}, f"{NAME}; server_max_window_bits=9", f"{NAME}; server_max_window_bits=9"),
        ({"server_max_window_bits": 10}, f"{NAME}; server_max_window_bits=12", f"{NAME}; server_max_window_bits=10"),
        ({"client_max_window_bits": 10}, f"{NAME}; client_max_window_bits", f"{NAME}; client_max_window_bits=10"),
        ({"client_max_window_bits": 10}, f"{NAME}; client_max_window_bits=9", f"{NAME}; client_max_window_bits=9"),
        ({"client_max_window_bits": 10}, f"{NAME}; client_max_window_bits=12", f"{NAME}; client_max_window_bits=10"),
        # Section 7.1.2.2: a client that did not say that it understands the parameter must not get it.
        ({"client_max_window_bits": 10}, NAME, None),
    ],
)
def test_what_a_server_makes_of_its_settings(settings: dict[str, Any], offer: str, response: str | None) -> None:
    assert answer(offer, Deflate(context_takeover=True, **settings)) == response


CHROME = f"{NAME}; client_max_window_bits"


@pytest.mark.parametrize(
    ("user_agent", "offer", "response", "keeps"),
    [
        # Browsers obey client_no_context_takeover.
        (BROWSER, NAME, FORGETFUL, False),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36", CHROME, FORGETFUL, False),
        # Netty's client refuses each parameter that it did not offer, and sends no User-Agent. Those of Tornado and
        # Mojolicious do not see it.
        (None, CHROME, NAME, True),
        ("Tornado/6.5", CHROME, NAME, True),
        ("Mojolicious (Perl)", NAME, NAME, True),
        ("", NAME, NAME, True),
        # A client that offers it gets it.
        ("lapwing", f"{FORGETFUL}; client_max_window_bits, {CHROME}", FORGETFUL, False),
        (None, f"{NAME}; client_no_context_takeover", FORGETFUL, False),
    ],
)
def test_which_clients_are_told_to_forget(user_agent: str | None, offer: str, response: str, keeps: bool) -> None:
    assert answer(offer, user_agent=user_agent) == response
    headers = Headers([] if user_agent is None else [("User-Agent", user_agent)])
    answered = Deflate().for_server.for_request(headers).respond(parse_extensions(offer)[0])
    assert answered is not None
    assert answered[1].keeps_incoming is keeps


@pytest.mark.parametrize("user_agent", [BROWSER, None])
@pytest.mark.parametrize(
    ("settings", "response"),
    [
        ({"peer_context_takeover": True}, NAME),
        ({"peer_context_takeover": False}, FORGETFUL),
        ({"context_takeover": True}, NAME),
        ({"context_takeover": True, "peer_context_takeover": True}, NAME),
        ({"context_takeover": True, "peer_context_takeover": False}, f"{NAME}; client_no_context_takeover"),
    ],
)
def test_a_choice_for_the_peer_is_for_browsers_and_others(
    user_agent: str | None, settings: dict[str, Any], response: str
) -> None:
    assert answer(CHROME, Deflate(**settings), user_agent) == response


HOSTILE = [
    *(f"{name}={value}" for name in ("server_max_window_bits", "client_max_window_bits") for value in (0, 7, 16, 100)),
    *(
        f"{name}={value}"
        for name in ("server_max_window_bits", "client_max_window_bits")
        for value in ("08", "+9", "9x")
    ),
    "server_max_window_bits",
    "server_no_context_takeover=1",
    "client_no_context_takeover=true",
    "server_no_context_takeover; server_no_context_takeover",
    "client_max_window_bits; client_max_window_bits",
    "client_max_window_bits=9; client_max_window_bits=9",
    "server_max_window_bits=9; server_max_window_bits=10",
    "unknown",
    "__proto__",
    "__proto__=9",
    "constructor",
    "Server_No_Context_Takeover",
    "server_max_window_bits=" + "9" * 5000,
]


@pytest.mark.parametrize("parameters", HOSTILE, ids=lambda text: text[:60])
def test_hostile_offers_are_declined(parameters: str) -> None:
    assert answer(f"{NAME}; {parameters}") is None
    assert answer(f"{NAME}; {parameters}, {NAME}") == FORGETFUL


@pytest.mark.parametrize("value", ['""', '"', "", "é", "9;9"])
def test_offers_against_the_grammar_are_refused(value: str) -> None:
    policy = ServerPolicy(subprotocols=[], default=True, extensions=[Deflate().for_server])
    handshake = ServerHandshake(policy)
    offer = f"{NAME}; client_max_window_bits={value}; ;"
    handshake.receive_data(wire.request("localhost", headers=[("Sec-WebSocket-Extensions", offer)]))
    assert handshake.response is not None
    assert handshake.response.status == 400


# --- responses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "settings", "expected"),
    [
        (FORGETFUL, {}, (False, False, 12, 15)),
        (f"{NAME}; server_no_context_takeover", {}, (False, False, 12, 15)),
        (f"{FORGETFUL}; server_max_window_bits=8; client_max_window_bits=8", {}, (False, False, 8, 8)),
        (f"{FORGETFUL}; client_max_window_bits=15", {"client_max_window_bits": 15}, (False, False, 15, 15)),
        (FORGETFUL, {"client_max_window_bits": 10}, (False, False, 10, 15)),
        (NAME, {"context_takeover": True}, (True, True, 15, 15)),
        (f"{NAME}; client_max_window_bits=13", {"context_takeover": True}, (True, True, 13, 15)),
        (NAME, {"context_takeover": True, "client_max_window_bits": 10}, (True, True, 10, 15)),
        (f"{NAME}; client_no_context_takeover", {"context_takeover": True}, (False, True, 12, 15)),
        (f"{NAME}; server_no_context_takeover", {"context_takeover": True}, (True, False, 15, 15)),
        (
            f"{NAME}; server_max_window_bits=9",
            {"context_takeover": True, "server_max_window_bits": 10},
            (True, True, 15, 9),
        ),
        # Section 7.1: a client fails only what it does not support. Tornado, Mojolicious and a dedicated compressor of
        # uWebSockets answer every offer in these words.
        (NAME, {}, (False, True, 12, 15)),
        (f"{NAME}; client_no_context_takeover", {}, (False, True, 12, 15)),
        (f"{NAME}; server_max_window_bits=10", {}, (False, True, 12, 10)),
        # Asked for and not confirmed: the server may use the largest window.
        (FORGETFUL, {"server_max_window_bits": 10}, (False, False, 12, 15)),
        (NAME, {"server_max_window_bits": 10}, (False, True, 12, 15)),
    ],
)
def test_responses(response: str, settings: dict[str, Any], expected: tuple[bool, bool, int, int]) -> None:
    assert accept(response, Deflate(**settings)) == expected


@pytest.mark.parametrize("parameters", [*HOSTILE, "client_max_window_bits"], ids=lambda text: text[:60])
def test_malformed_responses_fail_the_handshake(parameters: str) -> None:
    """Section 7.1: the client must fail the connection."""
    with pytest.raises(HandshakeError, match=f"the server's {NAME} is malformed"):
        accept(f"{NAME}; {parameters}")


@pytest.mark.parametrize(
    ("response", "settings"),
    [
        (f"{FORGETFUL}; server_max_window_bits=11", {"server_max_window_bits": 10}),
        (f"{FORGETFUL}; client_max_window_bits=11", {"client_max_window_bits": 10}),
    ],
)
def test_responses_that_do_not_answer_the_offer_fail_the_handshake(response: str, settings: dict[str, Any]) -> None:
    with pytest.raises(HandshakeError, match="the server agreed to permessage-deflate with"):
        accept(response, Deflate(**settings))


def test_a_server_that_must_forget_and_does_not_confirm_it() -> None:
    settings = Deflate(peer_context_takeover=False)
    assert accept(FORGETFUL, settings) == (False, False, 12, 15)
    with pytest.raises(HandshakeError, match="without server_no_context_takeover: connect with peer_context_takeover="):
        accept(NAME, settings)


def test_a_server_that_agrees_to_both_offers() -> None:
    """Libsoup 3 does so, and compresses what it sends twice."""
    both = f"{FORGETFUL}; client_max_window_bits=15, {NAME}; client_max_window_bits=15"
    response = wire.response("AAAAAAAAAAAAAAAAAAAAAA==", headers=[("Sec-WebSocket-Extensions", both)])
    for fallbacks in (True, False):
        handshake = ClientHandshake(
            parse_url("ws://localhost"), nonce=bytes(16), extensions=[Deflate().for_client], fallbacks=fallbacks
        )
        with pytest.raises(HandshakeError, match="the server agreed to the extension 'permessage-deflate' twice"):
            handshake.receive_data(response)
        assert handshake.took_both_offers is fallbacks


@pytest.mark.parametrize("extensions", [f"{FORGETFUL}, {FORGETFUL}", "x-other", f"{NAME}-2"])
def test_a_response_with_more_than_was_offered_fails_the_handshake(extensions: str) -> None:
    handshake = ClientHandshake(parse_url("ws://localhost"), nonce=bytes(16), extensions=[ClientDeflate(Deflate())])
    with pytest.raises(HandshakeError, match="the server agreed to the extension"):
        handshake.receive_data(
            wire.response("AAAAAAAAAAAAAAAAAAAAAA==", headers=[("Sec-WebSocket-Extensions", extensions)])
        )


# --- both ends ---------------------------------------------------------------------------------------------------

SETTINGS = st.builds(
    Deflate,
    context_takeover=st.booleans(),
    peer_context_takeover=st.none() | st.booleans(),
    server_max_window_bits=st.none() | st.integers(9, 15),
    client_max_window_bits=st.none() | st.integers(9, 15),
)


@given(SETTINGS, SETTINGS)
def test_two_ends_agree_on_the_same(client: Deflate, server: Deflate) -> None:
    """Whatever a server answers a client of lapwing accepts, and each end can read what the other writes."""
    answered = ServerDeflate(server).respond(client.for_client.offer())
    assert answered is not None
    response, theirs = answered
    ours = client.for_client.accept(response.parameters)
    for sender, receiver in ((ours, theirs), (theirs, ours)):
        assert sender.keeps_outgoing <= receiver.keeps_incoming
        assert sender.outgoing_window_bits <= receiver.incoming_window_bits
    if not client.context_takeover:
        assert not ours.keeps_outgoing
        assert theirs.keeps_outgoing <= (client.peer_context_takeover is True)
    assert not (theirs.keeps_incoming and server.peer_context_takeover is False)


@given(SETTINGS, st.booleans(), st.booleans(), st.none() | st.integers(9, 15), st.none() | st.integers(9, 15))
def test_agreement_with_websockets(
    settings: Deflate, server_forgets: bool, client_forgets: bool, server_bits: int | None, client_bits: int | None
) -> None:
    """A client by another author accepts what the server answers, and its server is accepted by the client."""
    client = ClientPerMessageDeflateFactory(server_forgets, client_forgets, server_bits, client_bits or True)
    offer = ExtensionOffer(NAME, tuple(client.get_request_params()))
    answered = settings.for_server.respond(offer)
    assert answered is not None
    theirs = client.process_response_params(list(answered[0].parameters), [])
    codec = answered[1]
    assert theirs.local_max_window_bits <= codec.incoming_window_bits
    assert theirs.remote_max_window_bits >= codec.outgoing_window_bits
    assert codec.keeps_outgoing <= (not theirs.remote_no_context_takeover)
    assert (not theirs.local_no_context_takeover) <= codec.keeps_incoming

    server = ServerPerMessageDeflateFactory(server_forgets, client_forgets, server_bits, client_bits)
    parameters, theirs = server.process_request_params(list(settings.for_client.offer().parameters), [])
    ours = settings.for_client.accept(tuple(parameters))
    assert theirs.local_max_window_bits <= ours.incoming_window_bits
    assert theirs.remote_max_window_bits >= ours.outgoing_window_bits


def test_connections_without_context_takeover_share_one_codec() -> None:
    server = Deflate().for_server
    first, second = (server.respond(ExtensionOffer(NAME)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first[1] is second[1]
    own = Deflate(context_takeover=True).for_server
    first, second = (own.respond(ExtensionOffer(NAME)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first[1] is not second[1]
    assert agreed(NAME, Deflate()) == (False, True, 12, 15)
    assert agreed(FORGETFUL, Deflate()) == (False, False, 12, 15)
    takeover = Deflate(context_takeover=True)
    assert agreed(NAME, takeover) == (True, True, 15, 15)
    assert agreed(f"{NAME}; server_no_context_takeover", takeover) == (False, True, 12, 15)
    assert agreed(f"{NAME}; server_max_window_bits=11", takeover) == (True, True, 11, 15)
