"""What this package needs of others, and the one command that installs it."""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys

# As in pyproject.toml.
REQUIREMENTS = ("protobuf>=6.31.1,<8",)
MODULES = {"google.protobuf": "protobuf"}


def missing() -> str:
    """The name of a package that is not there, or an empty text."""
    for module, package in MODULES.items():
        try:
            if importlib.util.find_spec(module) is not None:
                continue
        except ModuleNotFoundError:
            pass
        return package
    return ""


def sentence(package: str) -> str:
    """Why a handler that the daemon has started cannot work."""
    program = os.path.basename(sys.argv[0])
    is_project = len(sys.argv) == 2 and program in ("run.py", "-m")
    return f"the package {package} is not installed for {sys.executable}: {command(sys.argv[1] if is_project else '')}"


def command(project: str, *more: str) -> str:
    """Installs them for this Python, or more in their place; where it has no environment of its own, all into one in the
    project's directory."""
    if sys.prefix != sys.base_prefix or not project:
        return _quoted(sys.executable, "-m", "pip", "install", *(more or REQUIREMENTS))
    venv = f"{project}/.venv"
    make = _quoted(sys.executable, "-m", "venv", venv)
    return f"{make} && {_quoted(f'{venv}/bin/python', '-m', 'pip', 'install', *REQUIREMENTS, *more)}"


def _quoted(*words: str) -> str:
    return " ".join(shlex.quote(w) for w in words)
