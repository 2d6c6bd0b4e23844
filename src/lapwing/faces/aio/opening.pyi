from .driver import Stage

__all__ = ["OpeningStage"]

class OpeningStage(Stage): ...
