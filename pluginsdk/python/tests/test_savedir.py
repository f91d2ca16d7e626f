"""Files that somebody else has named, in a directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator

import pytest
from conftest import PACKAGE

from blocksd import _savedir
from blocksd._savedir import EXTENSIONS, PART_SUFFIX, SaveDir, safe_name

# Go's package is tested with the same.
NAMES = json.loads((PACKAGE.parent.parent / "internal" / "savedir" / "testdata" / "names.json").read_text())


@pytest.fixture
def out(tmp_path: Path) -> Iterator[SaveDir]:
    directory = SaveDir(tmp_path / "deep" / "out")
    yield directory
    directory.close()


def broken() -> Iterator[bytes]:
    yield b"half"
    raise ConnectionError("broken off")


def listed(directory: SaveDir) -> list[str]:
    return sorted(os.listdir(directory.path))


def test_names_are_those_of_the_other_packages() -> None:
    for c in NAMES:
        assert safe_name(c["sent"], c["mimeType"], c["index"]) == c["name"], c
    assert EXTENSIONS.keys() <= {c["mimeType"] for c in NAMES}
    assert safe_name("a\ud800b", "", 1) == "ab", "what no file system takes"


def test_many_who_save_one_name_get_a_file_each(out: SaveDir) -> None:
    def save(number: int) -> None:
        mine = SaveDir(out.path)
        with pytest.raises(ConnectionError):
            mine.save("a.txt", broken())
        assert mine.save("a.txt", [b"", b"%d" % number]).read_bytes() == b"%d" % number
        mine.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(save, range(20)))
    assert listed(out) == sorted(["a.txt", *(f"a ({n}).txt" for n in range(2, 21))])


def test_nothing_is_replaced_and_no_link_followed(out: SaveDir) -> None:
    victim = out.path.parent / "victim"
    (out.path / "a.txt").symlink_to(victim)
    (out.path / ("b" + PART_SUFFIX)).symlink_to(victim)
    (out.path / "c").mkdir()
    assert [out.save(name, [b"x"]).name for name in ("a.txt", "b", "c", "c")] == ["a (2).txt", "b", "c (2)", "c (3)"]
    assert not victim.exists()


def test_a_part_is_removed_once_its_process_is_gone(out: SaveDir) -> None:
    program = (
        "import sys, time; from blocksd._savedir import SaveDir\n"
        "def wait():\n    yield b'half'\n    print('writes', flush=True); time.sleep(600)\n"
        "SaveDir(sys.argv[1]).save('a', wait())"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(out.path)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(PACKAGE)}
    )
    with writer:
        assert writer.stdout is not None and writer.stdout.readline() == b"writes\n"
        try:
            assert out.save("a", [b"1"]).name == "a"
            assert listed(out) == ["a", "a" + PART_SUFFIX], "the other one still writes"
        finally:
            writer.kill()
    out.save("a", [b"2"])
    assert listed(out) == ["a", "a (2)"]


def test_without_hard_links_nothing_is_replaced_either(out: SaveDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    assert [out.save("a", [b"%d" % n]).name for n in range(3)] == ["a", "a (2)", "a (3)"]
    assert [(n, (out.path / n).read_bytes()) for n in listed(out)] == [("a", b"0"), ("a (2)", b"1"), ("a (3)", b"2")]


def test_there_is_a_bound(out: SaveDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_savedir, "MAX_SAME_NAME", 3)
    for name in ("a", "a (2)", "a (3)"):
        assert out.save("a", [b""]).name == name
    with pytest.raises(FileExistsError):
        out.save("a", [b""])
    assert listed(out) == ["a", "a (2)", "a (3)"], "and no part is left"
