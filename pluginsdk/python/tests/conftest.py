from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

PACKAGE = Path(__file__).parent.parent
sys.path[:0] = [str(PACKAGE), str(Path(__file__).parent)]

from daemon import Host, Process  # noqa: E402

CARD: dict[str, Any] = {
    "identity": {"agentName": "agent", "version": "1.2.3"},
    "runtime": {"handler": "./handler.py"},
}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts a handler whose program is given as a text, with blocksd imported and served unless it says otherwise."""
    processes: list[Process] = []

    def start(source: str, *, host: Host | None = None, env: dict[str, str] | None = None, connect: bool = True) -> Process:
        source = textwrap.dedent(source)
        if "import blocksd" not in source:
            source = "import blocksd\n" + source
        if "blocksd.serve" not in source:
            source += "\nblocksd.serve(handler)\n"
        program = tmp_path / "program.py"
        program.write_text(source)
        directory = tmp_path / f"p{len(processes)}"
        directory.mkdir()
        process = Process([str(program)], directory, host, env)
        processes.append(process)
        return process.connect() if connect else process

    yield start
    for process in processes:
        process.close()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts a project with these files; the card is added, changed by card."""
    processes: list[Process] = []

    def project(
        source: str | dict[str, str],
        *,
        card: dict[str, Any] | str | None = None,
        host: Host | None = None,
        env: dict[str, str] | None = None,
        connect: bool = True,
    ) -> Process:
        files = source if isinstance(source, dict) else {"handler.py": source}
        root = tmp_path / f"project {len(processes)}"
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(content))
        root.mkdir(exist_ok=True)
        if card != "none":
            document = card if isinstance(card, str) else json.dumps({**CARD, **(card or {})})
            (root / "agent-card.json").write_text(document)
        directory = tmp_path / f"p{len(processes)}"
        directory.mkdir()
        process = Process(["-m", "blocksd.project", str(root)], directory, host, env)
        processes.append(process)
        return process.connect() if connect else process

    yield project
    for process in processes:
        process.close()
