from .turns import Turns

__all__ = ["BlockingLink"]

class BlockingLink(Turns): ...
