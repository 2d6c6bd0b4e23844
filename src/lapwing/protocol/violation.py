"""Every rule of RFC 6455 and RFC 7692 that a peer can break once the connection is open, each with its name."""

from __future__ import annotations

from enum import Enum

__all__ = ["Violation"]


class Violation(Enum):
    """A rule that the peer broke.

    Each member has `code`, the close code with which the connection is failed, `section`, where the RFC states the
    rule, `text`, the close reason: the rule in words that fit a close frame, and `rfc`, 6455 or 7692.
    """

    def __init__(self, code: int, section: str, text: str, rfc: int = 6455) -> None:
        self.code = code
        self.section = section
        self.text = text
        self.rfc = rfc

    RESERVED_BIT = 1002, "5.2", "a reserved bit is set, but no extension was agreed that gives it a meaning"
    RESERVED_OPCODE = 1002, "5.2", "the opcode is reserved: expected 0, 1, 2, 8, 9 or 10"
    HTTP_RESPONSE = 1002, "5.2", "an HTTP response came in place of a frame, as a gateway sends one when it gives up"
    HTTP_REQUEST = 1002, "5.2", "an HTTP request came in place of a frame: this connection speaks WebSocket now"
    LENGTH_NOT_MINIMAL = 1002, "5.2", "the payload length is not in its shortest form"
    LENGTH_SIGN_BIT = 1002, "5.2", "the most significant bit of a 64-bit payload length is set"
    UNMASKED_FRAME = 1002, "5.1", "a frame from a client must be masked"
    MASKED_FRAME = 1002, "5.1", "a frame from a server must not be masked"
    FRAGMENTED_CONTROL = 1002, "5.5", "a control frame must not be fragmented"
    CONTROL_TOO_LONG = 1002, "5.5", "a control frame must have a payload of 125 bytes or less"
    UNEXPECTED_CONTINUATION = 1002, "5.4", "a continuation frame came, but no message is under way"
    EXPECTED_CONTINUATION = 1002, "5.4", "a new message began before the last one ended"
    CLOSE_TOO_SHORT = 1002, "5.5.1", "a close frame with a payload must begin with a close code of two bytes"
    CLOSE_CODE = 1002, "7.4", "the close code must not be used in a close frame"
    CLOSE_REASON_NOT_UTF8 = 1007, "5.5.1", "the close reason is not valid UTF-8"
    TEXT_NOT_UTF8 = 1007, "8.1", "a TEXT message is not valid UTF-8"
    MESSAGE_TOO_BIG = 1009, "10.4", "the message is larger than max_message_size"
    COMPRESSED_CONTROL = 1002, "6.1", "a control frame must not be compressed", 7692
    COMPRESSED_CONTINUATION = 1002, "6.1", "only the first frame of a message may say that it is compressed", 7692
    NOT_DEFLATED = 1007, "7.2.2", "a compressed message is not whole and valid DEFLATE data", 7692
