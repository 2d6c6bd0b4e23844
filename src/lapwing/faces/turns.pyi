from .connection import BaseConnection

__all__ = ["Turns"]

class Turns(BaseConnection): ...
