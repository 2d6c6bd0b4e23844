__all__ = ["Carrier"]

class Carrier:
    @property
    def is_closed(self) -> bool: ...
