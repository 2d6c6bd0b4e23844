"""What `lapwing serve` is told to serve: found, imported and understood, or complained of."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Target", "TargetError", "load", "load_application", "understand"]

#: The name that is looked for in a module when none is given.
_DEFAULT_NAME: Final = "handlers"
#: The same for an application.
_DEFAULT_APPLICATION: Final = "app"
#: Options that say where to listen: the command line does.
_PLACES: Final = ("port", "interface", "unix", "unix_mode", "sockets", "reuse_port")


class TargetError(Exception):
    """There is nothing to serve, for a reason that the text gives.

    Attributes:
        files: the files in which it was found: a change there may put it right.
    """

    def __init__(self, text: str, files: set[str] | None = None) -> None:
        super().__init__(text)
        self.files = files or set()


@dataclass
class Target:
    """The target of `lapwing serve`.

    Attributes:
        protocols: a handler for each subprotocol.
        default: the handler of other clients.
        options: options of `lapwing.listen`.
    """

    protocols: dict[str, Any] = field(default_factory=dict)
    default: Any = None
    options: dict[str, Any] = field(default_factory=dict)


def load(text: str) -> Target:
    """Import what `MODULE:NAME` or `FILE.py:NAME` names.

    Raises:
        TargetError: it cannot be found, imported or served.
    """
    return understand(_find(text, _DEFAULT_NAME), text)


def load_application(text: str, root_path: str) -> Target:
    """Import the ASGI application that `MODULE:NAME` or `FILE.py:NAME` names.

    Args:
        text: the name.
        root_path: the path that it is mounted at.

    Raises:
        TargetError: it cannot be found or imported, or is no application.
    """
    import lapwing.asgi  # the others need none of it

    found = _find(text, _DEFAULT_APPLICATION)
    try:
        return Target(default=lapwing.asgi.handler(found, root_path=root_path))
    except (TypeError, ValueError) as error:
        raise TargetError(f"{text}: {error}") from None


def _find(text: str, usual: str) -> Any:
    place, colon, name = text.rpartition(":")
    if not colon:
        place, name = text, usual
    if not place or not name:
        raise TargetError(f"expected MODULE:NAME or FILE.py:NAME, got {text!r}")
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    return _look_up(module, place, name)


def _import_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name != missing and not name.startswith(missing + "."):
            raise _failed(name, error) from None
        hint = f"; for a file write {name}.py:NAME" if Path(f"{name}.py").exists() else ""
        raise TargetError(f"there is no module {missing!r}, from {here}{hint}", {f"{name}.py"}) from None
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise _failed(name, error) from None


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise TargetError(f"there is no file {str(path)!r}, from {Path.cwd()}", {str(path)})
    path = path.resolve()
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # as for a program: its neighbours can be imported
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise _failed(str(path), error) from None
    return module


def _failed(name: str, error: BaseException) -> TargetError:
    """Make an error message of a module's exception: the traceback without the machinery that imported it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(own)] if own else []
    lines += traceback.format_exception_only(error)
    files = {frame.filename for frame in own}
    if isinstance(error, SyntaxError) and error.filename:
        files.add(error.filename)
    return TargetError(f"{name!r} cannot be imported:\n{''.join(lines).rstrip()}", files)


def _look_up(module: ModuleType, place: str, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            there = [
                each
                for each, value in vars(module).items()
                if not each.startswith("_")
                and (isinstance(value, Mapping) or getattr(value, "__module__", "") == module.__name__)
            ]
            hint = f": it has {', '.join(sorted(there))}" if there else ""
            raise TargetError(f"there is no {name!r} in {place!r}{hint}") from None
    return found


def understand(found: Any, text: str) -> Target:
    """Take a handler, a dict of them, or a dict of options as the target; error messages call it by `text`.

    Raises:
        TargetError: it is none of these.
    """
    if not isinstance(found, Mapping):
        if not callable(found):
            raise TargetError(
                f"expected {text} to be a handler, a dict of subprotocols and handlers, or a dict of options, got "
                f"{type(found).__name__}"
            )
        return Target(default=found)
    if not {"protocols", "default"} & set(found):
        for name, handler in found.items():
            if not isinstance(name, str) or not callable(handler):
                raise TargetError(
                    f"expected {text} to have a handler for each subprotocol, or 'protocols' or 'default' among "
                    f"options, got {name!r}: {handler!r}"
                )
        if not found:
            raise TargetError(f"{text} is an empty dict: expected a handler for each subprotocol")
        return Target(protocols=dict(found))
    options = dict(found)
    for name in _PLACES:
        if name in options:
            raise TargetError(f"{name!r} in {text} is an option of the command line: see --port and --interface")
    return Target(dict(options.pop("protocols", None) or {}), options.pop("default", None), options)
