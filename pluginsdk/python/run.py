"""python run.py DIR: serves a project with the package that lies beside this file, wherever that is unpacked."""

import sys

if sys.version_info < (3, 10):
    sys.stderr.write(
        "%s is Python %d.%d, and handlers need 3.10 or newer: install one, or make the project's .venv with one\n"
        % ((sys.executable,) + sys.version_info[:2])
    )
    sys.exit(78)

from blocksd.project.__main__ import main  # noqa: E402

main()
