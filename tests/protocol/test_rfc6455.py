"""Every MUST and MUST NOT of RFC 6455, sections 3 to 10, that concerns an endpoint, and the test that proves it.

The table names, for each requirement, its section, what it demands in our own words, and a test: `file::test`, or one
of this file. What concerns intermediaries, authors of extensions or the IANA is not here.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from lapwing.protocol import Closed, Ending, Endpoint, Role, State, Violation
from tests.peers import wire
from tests.peers.wire import close_payload
from tests.protocol.machine import *

HERE = Path(__file__)


class Requirement(NamedTuple):
    """One MUST or MUST NOT.

    Attributes:
        section: of RFC 6455.
        demand: in our words.
        test: `test_name` in this file, or `file.py::test_name`.
    """

    section: str
    demand: str
    test: str


#: Section | what it demands | the test: of this file, or of another one here; the test may stand in the next line.
TABLE = """
3     | a URL has no fragment | test_url.py::test_fragment_must_not_be_used
3     | a '#' that is no fragment's is percent-encoded | test_url.py::test_target_is_percent_encoded
3     | the scheme and the host are matched without case
      | test_url.py::test_scheme_and_host_are_matched_without_regard_to_case
4.1   | an invalid URL is not connected to | test_url.py::test_any_text_is_a_url_or_invalid
4.1   | the request is valid HTTP, a GET of version 1.1 or higher | test_handshake.py::test_client_request
4.1   | the request's target is the resource name, or the whole URL | test_handshake.py::test_client_target_and_host
4.1   | Host holds the host, and the port where it is not the default
      | test_url.py::test_host_header_has_brackets_and_no_default_port
4.1   | Upgrade holds websocket | test_handshake.py::test_client_request_is_what_it_says
4.1   | Connection holds Upgrade | test_handshake.py::test_client_request_is_what_it_says
4.1   | the nonce is 16 bytes in base64, chosen at random for each connection
      | test_handshake.py::test_client_nonce_has_16_bytes
4.1   | Sec-WebSocket-Version is 13 | test_handshake.py::test_client_request_is_what_it_says
4.1   | the headers of the handshake are there once | test_handshake.py::test_client_single_headers_are_there_once
4.1   | subprotocols are unique | test_handshake.py::test_subprotocols_are_unique
4.1   | subprotocols are tokens | test_handshake.py::test_subprotocols_are_tokens
4.1   | the client waits for the response before it sends more | test_handshake.py::test_client_accepts
4.1   | another status than 101 is handled as HTTP has it | test_handshake.py::test_client_other_status_than_101
4.1   | a response without Upgrade: websocket fails | test_handshake.py::test_client_fails_without_upgrade
4.1   | a response without Connection: Upgrade fails | test_handshake.py::test_client_fails_without_connection
4.1   | a response without the right Sec-WebSocket-Accept fails
      | test_handshake.py::test_client_fails_without_the_right_accept
4.1   | white space around Sec-WebSocket-Accept is ignored
      | test_handshake.py::test_client_ignores_white_space_around_the_accept
4.1   | an extension that was not offered fails the connection
      | test_handshake.py::test_client_fails_with_an_extension_that_was_not_offered
4.1   | a subprotocol that was not asked for fails the connection
      | test_handshake.py::test_client_fails_with_a_subprotocol_that_was_not_asked_for
4.1   | a response that breaks the rules of the server's handshake fails
      | test_handshake.py::test_client_fails_with_two_accepts
4.2.1 | the server wants a GET request of HTTP/1.1 | test_handshake.py::test_server_wants_a_get_request_of_http_1_1
4.2.1 | the server wants Host | test_handshake.py::test_server_wants_one_host
4.2.1 | the server wants Upgrade: websocket | test_handshake.py::test_server_wants_an_upgrade_to_websocket
4.2.1 | the server wants Connection: Upgrade | test_handshake.py::test_server_wants_a_connection_upgrade
4.2.1 | tokens of the handshake are matched without case
      | test_handshake.py::test_server_matches_tokens_without_regard_to_case
4.2.1 | the server wants a key of 16 bytes in base64 | test_handshake.py::test_server_wants_a_key_of_16_bytes
4.2.1 | a request that does not follow the description is not processed
      | test_handshake.py::test_server_refuses_malformed_requests
4.2.2 | a version that is not understood is refused, with those that are (426)
      | test_handshake.py::test_server_wants_version_13
4.2.2 | an origin that is not wanted is answered with 403
      | test_handshake.py::test_server_refuses_foreign_pages_by_default
4.2.2 | the subprotocol is one of the client's | test_handshake.py::test_server_subprotocol
4.2.2 | the response is a 101 with Upgrade, Connection and Sec-WebSocket-Accept
      | test_handshake.py::test_server_response
4.2.2 | Sec-WebSocket-Accept is the SHA-1 of key and GUID | test_handshake.py::test_accept_key
4.2.2 | an extension that was not asked for is not in the response | test_handshake.py::test_server_declines_extensions
4.3   | Sec-WebSocket-Key and -Version are there once in a request | test_handshake.py::test_server_wants_one_key
4.3   | values of Sec-WebSocket-Extensions follow their grammar
      | test_extension.py::test_what_does_not_conform_is_refused
4.4   | the server says which versions it takes | test_handshake.py::test_server_wants_version_13
5.1   | a client masks every frame | test_masking.py::test_masked_by_the_client_only
5.1   | a server closes upon an unmasked frame | test_frame.py::test_server_refuses_unmasked_frames
5.1   | a server masks no frame | test_masking.py::test_masked_by_the_client_only
5.1   | a client closes upon a masked frame | test_frame.py::test_client_refuses_masked_frames
5.1   | data may be sent once the opening handshake is done, and before a close frame
      | test_send.py::test_nothing_is_sent_once_closing
5.2   | reserved bits are 0 without an extension | test_5_2_reserved_bits_are_never_sent
5.2   | a reserved bit without a meaning fails the connection | test_frame.py::test_reserved_bits
5.2   | an unknown opcode fails the connection | test_frame.py::test_reserved_opcodes
5.2   | a length is in its shortest form when sent | test_frame.py::test_length_forms_are_written
5.2   | a length is in its shortest form when received, 16 bits | test_frame.py::test_16_bits_for_a_length_of_7
5.2   | a length is in its shortest form when received, 64 bits | test_frame.py::test_64_bits_for_a_shorter_length
5.2   | the most significant bit of a 64-bit length is 0 | test_frame.py::test_most_significant_bit_of_the_length
5.2   | lengths are in network byte order | test_frame.py::test_rfc_binary
5.3   | the masking is the octet-wise XOR | test_masking.py::test_every_length_and_offset
5.3   | a key is fresh for each frame, from a strong source of entropy | test_masking.py::test_no_key_is_used_twice
5.3   | the next key cannot be told from the ones before
      | test_masking.py::test_default_source_is_the_operating_systems
5.3   | masking does not change the length | test_5_3_masking_keeps_the_length
5.4   | control frames may come between fragments | test_messages.py::test_control_frames_between_fragments
5.4   | control frames are not fragmented | test_messages.py::test_fragmented_control_frame
5.4   | fragments are delivered in the order in which they were sent | test_messages.py::test_fragments
5.4   | fragments of two messages are not interleaved: sent | test_send.py::test_no_other_message_between_fragments
5.4   | fragments of two messages are not interleaved: received | test_messages.py::test_new_message_within_a_message
5.4   | control frames in the middle of a message are handled
      | test_messages.py::test_ping_is_answered_before_the_message_ends
5.4   | a control frame of this end may go out between fragments | test_5_4_control_frames_go_out_between_fragments
5.4   | a receiver takes fragmented and whole messages | test_messages.py::test_messages_follow_each_other
5.4   | all fragments of a message have the type of the first | test_messages.py::test_fragments
5.5   | control frames have at most 125 bytes, received | test_messages.py::test_control_frame_of_every_length
5.5   | control frames have at most 125 bytes, sent | test_5_5_no_control_frame_of_more_than_125_bytes_is_sent
5.5.1 | a close frame's payload begins with a code of two bytes | test_closing.py::test_close_payload_of_one_byte
5.5.1 | a close reason is UTF-8 | test_closing.py::test_reason_that_is_no_text
5.5.1 | a client's close frame is masked | test_5_5_1_close_frame_of_a_client_is_masked
5.5.1 | no data frame follows a close frame | test_send.py::test_nothing_is_sent_once_closing
5.5.1 | a close frame is answered with a close frame | test_closing.py::test_begun_by_the_peer
5.5.1 | no second close frame is sent | test_closing.py::test_close_twice
5.5.1 | after both close frames the connection is closed, with its TCP connection
      | test_closing.py::test_begun_by_this_end
5.5.1 | the server closes TCP at once | test_5_5_1_the_server_closes_the_transport_and_the_client_waits
5.5.2 | a ping is answered, unless a close frame was received | test_control.py::test_ping_is_answered_while_closing
5.5.2 | not after a close frame was received | test_control.py::test_ping_after_the_peers_close_frame_is_not_answered
5.5.3 | a pong has the ping's payload | test_control.py::test_pong_repeats_the_payload_of_the_ping
5.5.3 | a pong that was not asked for needs no answer | test_control.py::test_pong_that_was_not_asked_for
5.6   | a TEXT message is UTF-8 as a whole, received | test_utf8.py::test_valid_in_fragments
5.6   | a TEXT message is UTF-8 as a whole, sent | test_send.py::test_fragments_that_are_no_text
5.8   | what no extension has agreed on is refused | test_frame.py::test_reserved_opcodes
6.1   | the connection is open, and checked before each message | test_send.py::test_nothing_is_sent_once_closing
6.1   | the first frame has the opcode of the data | test_send.py::test_opcodes
6.1   | the last frame of a message has FIN set | test_send.py::test_fragments
6.1   | frames of a client are masked | test_masking.py::test_masked_by_the_client_only
6.2   | incoming bytes are parsed as frames | test_frame.py::test_length_forms_are_read
6.2   | control frames are handled as section 5.5 has it | test_control.py::test_every_ping_is_answered_in_order
6.2   | a message is the concatenation of its fragments | test_messages.py::test_any_fragments_at_any_cuts
6.2   | a server removes the masking | test_masking.py::test_every_alignment
7.1.1 | the client may close TCP when the server does not in reasonable time
      | test_time.py::test_peer_that_does_not_close_the_transport
7.1.2 | the closing handshake begins with a close frame with a code | test_closing.py::test_begun_by_this_end
7.1.2 | after both close frames TCP is closed | test_state.py::test_every_event_in_every_state
7.1.4 | clean means that both close frames were exchanged | test_closing.py::test_end_of_stream_without_a_close_frame
7.1.5 | the close code is that of the first close frame that came; 1005 and 1006 stand for none
      | test_closing.py::test_answer_with_another_code
7.1.6 | the close reason is that of the same frame | test_closing.py::test_begun_by_the_peer
7.1.7 | to fail the connection is to send a close frame and to end it | test_closing.py::test_fail
7.1.7 | nothing from the peer counts any more after that, not even a close frame
      | test_7_1_7_nothing_counts_after_a_failure
7.2.1 | a transport that ends fails the connection | test_closing.py::test_end_of_stream_without_a_close_frame
7.2.2 | a server that fails the connection sends a close frame with a code
      | test_closing.py::test_violation_while_closing
7.3   | closing may begin at any time | test_closing.py::test_close_frame_is_not_fragmented
7.4.1 | 1004 is not used | test_7_4_1_reserved_codes
7.4.1 | 1005, 1006 and 1015 are never in a close frame | test_7_4_1_reserved_codes
7.4.2 | 0 to 999 are not used, 1000 to 2999 as the registry has it, 3000 to 4999 by others
      | test_closing.py::test_every_code_is_received_or_refused
7.4.2 | the same for what this end sends | test_closing.py::test_every_code_is_sent_or_refused
8.1   | a byte stream that is not UTF-8 fails the connection, within a message
      | test_utf8.py::test_invalid_fails_in_the_middle_of_a_frame
8.1   | a byte stream that is not UTF-8 fails the connection, in a close frame
      | test_closing.py::test_reason_that_is_no_text
9.1   | extensions are asked for in order, and answered from among those
      | test_handshake.py::test_client_extensions_in_the_order_of_the_response
9.1   | a header value that does not conform fails the connection
      | test_handshake.py::test_server_refuses_malformed_extensions
9.1   | a quoted value conforms to the token grammar once unescaped
      | test_extension.py::test_what_does_not_conform_is_refused
9.1   | an extension that is not known is ignored by the server | test_handshake.py::test_server_declines_extensions
10.2  | a server that takes no foreign pages checks Origin
      | test_handshake.py::test_server_refuses_foreign_pages_by_default
10.3  | a client's key is not chosen by the application, and cannot be foretold
      | test_masking.py::test_default_source_is_the_operating_systems
10.3  | a payload does not go out before its key is chosen: no change afterwards
      | test_send.py::test_message_may_change_once_it_is_sent
10.4  | an implementation with limits guards itself: frames and messages
      | test_limits.py::test_limit_of_fragments_is_exact
10.7  | invalid data is never taken: closed, no bytes sent on | test_10_7_nothing_is_delivered_from_a_bad_frame
10.7  | an end that waits for the opening handshake fails upon wrong data
      | test_handshake.py::test_server_refuses_what_is_not_http
"""

REQUIREMENTS = [
    Requirement(*(cell.strip() for cell in row.split("|")))
    for row in TABLE.replace("\n      |", " |").strip().splitlines()
]


@cache
def names_in(path: Path) -> frozenset[str]:
    """The names of the tests that a file holds."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


@pytest.mark.parametrize(
    "requirement", REQUIREMENTS, ids=lambda requirement: f"{requirement.section}: {requirement.demand}"
)
def test_every_requirement_has_its_test(requirement: Requirement) -> None:
    file, _, name = requirement.test.rpartition("::")
    assert name in names_in(HERE.with_name(file) if file else HERE)


def test_every_test_here_is_in_the_table() -> None:
    own = {name for name in names_in(HERE) if name.split("_")[1].isdigit()}
    assert own == {requirement.test for requirement in REQUIREMENTS if "::" not in requirement.test}


def test_every_section_is_there() -> None:
    sections = {requirement.section.split(".")[0] for requirement in REQUIREMENTS}
    assert sections == {str(section) for section in range(3, 11)}
    assert len(REQUIREMENTS) == len(set(REQUIREMENTS))


# --- requirements that no other file proves by itself ------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_5_2_reserved_bits_are_never_sent(role: Role) -> None:
    """Section 5.2: RSV1, RSV2 and RSV3 MUST be 0 unless an extension was negotiated."""
    endpoint = Endpoint(role)
    endpoint.send("text")
    endpoint.send(bytes(1000))
    endpoint.send_fragment("a", fin=False)
    endpoint.ping(now=0.0)
    endpoint.receive_data(from_peer(role, PING, b"x"), now=0.0)
    endpoint.send_fragment("b", fin=True)
    endpoint.close(now=0.0)
    found = sent(endpoint)
    assert [frame.opcode for frame in found] == [TEXT, BINARY, TEXT, PING, PONG, CONTINUATION, CLOSE]
    assert all(frame.rsv == 0 for frame in found)


def test_5_3_masking_keeps_the_length() -> None:
    """Section 5.3: the length is that of the payload, masked or not; the key is not counted."""
    for size in (0, 1, 125, 126, 65535, 65536):
        endpoint = Endpoint(CLIENT)
        endpoint.send(bytes(size))
        data = endpoint.data_to_send()
        header = 6 if size < 126 else 8 if size < 65536 else 14
        assert len(data) == header + size
        assert wire.frame(BINARY, bytes(size))[1] == data[1] & 0x7F


@pytest.mark.parametrize("role", ROLES)
def test_5_4_control_frames_go_out_between_fragments(role: Role) -> None:
    """Section 5.4: an endpoint MUST be capable of handling control frames in the middle of a fragmented message."""
    endpoint = Endpoint(role)
    endpoint.send_fragment("a", fin=False)
    endpoint.receive_data(from_peer(role, PING, b"now"), now=0.0)
    assert sent(endpoint) == [Frame(TEXT, b"a", fin=False), Frame(PONG, b"now")]
    endpoint.send_fragment("b", fin=True)
    assert sent(endpoint) == [Frame(CONTINUATION, b"b")]


@pytest.mark.parametrize("role", ROLES)
def test_5_5_no_control_frame_of_more_than_125_bytes_is_sent(role: Role) -> None:
    """Section 5.5: all control frames MUST have a payload of 125 bytes or less and MUST NOT be fragmented."""
    endpoint = Endpoint(role)
    for call in (
        lambda: endpoint.ping(bytes(126), now=0.0),
        lambda: endpoint.close(1000, "x" * 124, now=0.0),
        lambda: endpoint.fail(1000, "x" * 124, now=0.0),
    ):
        with pytest.raises(ValueError, match="at most"):
            call()
    endpoint.ping(bytes(125), now=0.0)
    endpoint.receive_data(from_peer(role, PING, bytes(125)), now=0.0)
    endpoint.close(1000, "x" * 123, now=0.0)
    found = sent(endpoint)
    assert [len(frame.payload) for frame in found] == [125, 125, 125]
    assert all(frame.fin for frame in found)


def test_5_5_1_close_frame_of_a_client_is_masked() -> None:
    """Section 5.5.1: close frames sent from client to server must be masked as per section 5.3."""
    closing, failing, answering = Endpoint(CLIENT), Endpoint(CLIENT), Endpoint(CLIENT)
    closing.close(now=0.0)
    failing.fail(1011, now=0.0)
    answering.receive_data(b"\x88\x00", now=0.0)
    for endpoint in (closing, failing, answering):
        assert endpoint.data_to_send()[1] & 0x80


def test_5_5_1_the_server_closes_the_transport_and_the_client_waits() -> None:
    """Sections 5.5.1 and 7.1.1: after both close frames the server MUST close TCP at once, the client SHOULD wait."""
    for role, ending in ((CLIENT, Ending.AWAIT_EOF), (SERVER, Ending.CLOSE)):
        assert every_way(role, from_peer(role, CLOSE, close_payload(1000))).ending is ending
        endpoint = Endpoint(role)
        endpoint.close(now=0.0)
        endpoint.receive_data(from_peer(role, CLOSE), now=0.0)
        assert endpoint.ending is ending


@pytest.mark.parametrize("role", ROLES)
def test_7_1_7_nothing_counts_after_a_failure(role: Role) -> None:
    """Section 7.1.7: an endpoint MUST NOT continue to process data from the peer after it was told to fail."""
    for bad in (from_peer(role, 3), from_peer(role, TEXT, b"\xff"), from_peer(role, CONTINUATION)):
        more = (
            from_peer(role, TEXT, b"never")
            + from_peer(role, PING, b"never")
            + from_peer(role, CLOSE, close_payload(4000))
        )
        alone, followed = run(role, [bad]), run(role, [bad + more])
        assert alone == followed
        assert followed.messages == []
        assert followed.closed is not None
        assert followed.closed.was_clean is False


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("code", [1004, 1005, 1006, 1015])
def test_7_4_1_reserved_codes(role: Role, code: int) -> None:
    """Section 7.4.1: 1004 is reserved; 1005, 1006 and 1015 MUST NOT be set in a close frame by an endpoint."""
    failed(role, from_peer(role, CLOSE, close_payload(code)), Violation.CLOSE_CODE)
    endpoint = Endpoint(role)
    with pytest.raises(ValueError, match="close code"):
        endpoint.close(code, now=0.0)
    assert endpoint.state is State.OPEN
    for end, reported in ((from_peer(role, CLOSE), 1005), (b"", 1006)):
        endpoint = Endpoint(role)
        endpoint.receive_data(end, now=0.0)
        endpoint.receive_eof("lost")
        assert endpoint.closed == Closed(reported == 1005, reported, "" if reported == 1005 else "lost")
        assert all(frame.payload[:2] != reported.to_bytes(2, "big") for frame in sent(endpoint))


@pytest.mark.parametrize("role", ROLES)
def test_10_7_nothing_is_delivered_from_a_bad_frame(role: Role) -> None:
    """Section 10.7: incoming data MUST always be validated; what breaks a rule is never seen by the application."""
    bad = [
        wire.frame(TEXT, b"payload", key=None if role is SERVER else wire.MASK),
        from_peer(role, TEXT, b"payload", rsv=1),
        from_peer(role, 5, b"payload"),
        from_peer(role, TEXT, b"payload", form=64),
        from_peer(role, TEXT, b"payload\xff"),
        from_peer(role, CONTINUATION, b"payload"),
    ]
    for data in bad:
        endpoint = Endpoint(role)
        endpoint.receive_data(data, now=0.0)
        assert drain(endpoint) == []
        assert endpoint.violation is not None
        assert endpoint.held == len(endpoint.data_to_send())
