"""python run.py DIR: serves a project with the package that lies beside this file, wherever that is unpacked."""

import sys

if sys.version_info < (3, 10):
    sys.stderr.write(
        "%s is Python %d.%d, and handlers need 3.10 or newer: install one, or make the project's .venv with one\n"
        % ((sys.executable,) + sys.version_info[:2])
    )
    sys.exit(78)

if __name__ == "__main__":  # and not a process that multiprocessing has started, which loads this file again
    from blocksd.project.__main__ import main

    main()
