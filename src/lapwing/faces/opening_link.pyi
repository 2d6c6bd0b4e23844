from .link import Link

__all__ = ["OpeningLink"]

class OpeningLink(Link): ...
