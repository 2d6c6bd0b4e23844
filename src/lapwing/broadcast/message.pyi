from collections.abc import Hashable

from ..protocol.prepared import Prepared
from .policy import Policy

__all__ = ["Broadcast"]

class Broadcast:
    def __init__(self, prepared: Prepared, policy: Policy, key: Hashable = None) -> None: ...
    @property
    def prepared(self) -> Prepared: ...
    @property
    def policy(self) -> Policy: ...
    @property
    def key(self) -> Hashable: ...
    @property
    def dropped(self) -> int: ...
