from .inbound import Inbound

__all__ = ["Placing"]

class Placing(Inbound): ...
