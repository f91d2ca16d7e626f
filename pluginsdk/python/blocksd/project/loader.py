"""Finds the card and the handler of a project. What is wrong with it is a ProjectError of one sentence."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

from .. import _needs
from .._process import Adopted

STAND_IN = Path(__file__).parent.parent / "stand_in"


class ProjectError(Exception):
    pass


def read_card(directory: Path) -> Tuple[bytes, Dict[str, Any]]:
    path = directory / "agent-card.json"
    try:
        data = path.read_bytes()
        card = json.loads(data)
    except OSError as err:
        raise ProjectError(
            f"the project {directory} cannot be served because its agent-card.json cannot be read ({err.strerror}): "
            "name a directory that has one"
        ) from None
    except ValueError as err:
        raise ProjectError(f"{path} is not JSON: {err}") from None
    runtime = card.get("runtime") if isinstance(card, dict) else None
    if not isinstance(runtime, dict) or not isinstance(runtime.get("handler"), str) or not runtime["handler"]:
        raise ProjectError(f'{path} names no handler: set runtime.handler to the file, such as "./handler.py"')
    return data, card


def prepare(directory: Path) -> None:
    """Makes the process look to the handler as it expects: its directory and its modules."""
    os.chdir(directory)
    # A module that is edited is what it says now. Python takes what it has compiled for that, while size and second are the same.
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(directory))
    if importlib.util.find_spec("blocks_network") is None:
        # Blocks' own package is not here: ours has what handlers import from it.
        sys.path.append(str(STAND_IN))


def load(directory: Path, card: Dict[str, Any]) -> Callable[..., Any]:
    runtime = card["runtime"]
    path = (directory / runtime["handler"]).resolve()
    export = runtime.get("handlerExport") or "handler"
    if not path.is_file():
        raise ProjectError(f"the handler {path} is not there: correct runtime.handler in {directory / 'agent-card.json'}")
    sys.argv[:] = [str(path)]  # for a file that reads the command line
    module = _import(directory, path)
    handler = getattr(module, export, None)
    if handler is None:
        functions = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        near = difflib.get_close_matches(export, functions, 1) or difflib.get_close_matches("handler", functions, 1)
        hint = f"set runtime.handlerExport to {near[0]!r}, or define it" if near else "define it, or correct runtime.handlerExport"
        raise ProjectError(f"{path} has no function {export!r}: {hint}")
    if not callable(handler):
        raise ProjectError(f"{export!r} in {path} is no function but {type(handler).__name__}: correct runtime.handlerExport")
    return handler  # type: ignore[no-any-return]


def _import(directory: Path, path: Path) -> Any:
    name, root = path.stem, path.parent
    while (root / "__init__.py").is_file() and root != directory:  # inside a package: its modules may import each other
        name, root = f"{root.name}.{name}", root.parent
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    if name in sys.modules:  # one of ours, or of Python's, has the same name
        name = f"blocks_project_{path.stem}"
    try:
        if "." in name:
            return importlib.import_module(name)
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ProjectError(f"{path} is no Python file: correct runtime.handler in {directory / 'agent-card.json'}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    except (ProjectError, Adopted):
        raise
    except BaseException as err:
        raise ProjectError(_why(directory, path, err)) from err


def _why(directory: Path, path: Path, err: BaseException) -> str:
    start = f"{path} cannot be loaded because"
    if isinstance(err, SyntaxError):
        where = f"{err.filename}, line {err.lineno}" if err.filename != str(path) else f"line {err.lineno}"
        return f"{start} of a syntax error in {where}: {err.msg}"
    frames = [f for f in traceback.extract_tb(err.__traceback__) if not f.filename.startswith("<frozen")]
    here = [f for f in frames if f.filename.startswith(str(directory))] or frames
    if isinstance(err, ModuleNotFoundError) and err.name:
        first = err.name.split(".")[0]
        if here and first != err.name and ((directory / first).is_dir() or (directory / f"{first}.py").is_file()):
            where = f"{here[-1].filename}, line {here[-1].lineno}"
            return f"{start} there is no module {err.name!r} in the project: correct the import in {where}"
        return f"{start} the module {err.name!r} is not installed for {sys.executable}: run {_install(directory, err.name)}"
    traceback.print_exception(err)  # for the log; the sentence is what is shown elsewhere
    where = f" ({here[-1].filename}, line {here[-1].lineno})" if here else ""
    return f"{start} it raised {type(err).__name__}: {err}{where}"


def _install(directory: Path, module: str) -> str:
    if (directory / "requirements.txt").is_file():
        return _needs.command(str(directory), "-r", str(directory / "requirements.txt"))
    if (directory / "pyproject.toml").is_file():
        return _needs.command(str(directory), str(directory))
    package = module.split(".")[0]
    return f"{_needs.command(str(directory), package)} (or with the name of another package that has it)"
