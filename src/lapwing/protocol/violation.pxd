# The rules of `violation.py` for native code: a broken one is a number, which costs nothing to return. The numbers
# follow the order of `Violation`.

cdef enum Fault:
    NO_FAULT
    RESERVED_BIT
    RESERVED_OPCODE
    HTTP_RESPONSE
    HTTP_REQUEST
    LENGTH_NOT_MINIMAL
    LENGTH_SIGN_BIT
    UNMASKED_FRAME
    MASKED_FRAME
    FRAGMENTED_CONTROL
    CONTROL_TOO_LONG
    UNEXPECTED_CONTINUATION
    EXPECTED_CONTINUATION
    CLOSE_TOO_SHORT
    CLOSE_CODE
    CLOSE_REASON_NOT_UTF8
    TEXT_NOT_UTF8
    MESSAGE_TOO_BIG
    COMPRESSED_CONTROL
    COMPRESSED_CONTINUATION
    NOT_DEFLATED
