from enum import Enum

__all__ = ["Ending", "Role", "State"]

class Role(Enum):
    CLIENT = "client"
    SERVER = "server"

class State(Enum):
    CONNECTING = -1
    OPEN = 0
    CLOSING = 1
    CLOSED = 2

class Ending(Enum):
    STAY = 0
    CLOSE = 1
    AWAIT_EOF = 2
    SHUT_DOWN = 3
    DROP = 4
