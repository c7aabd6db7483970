"""``python -m schatten``, and the script ``schatten``: the same command line as the program's."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence

from . import _library


def _words(words: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(words) + 1))(*map(os.fsencode, words), None)


def run(arguments: Sequence[str]) -> int:
    """Runs one command, as ``["train", "--quiet"]``, and returns its exit code: 0 fine, 1 failed, 2 usage, 130 interrupted.

    Ctrl-C is the command's until it returns: a run saves, then stops.
    """
    program = [sys.executable, "-m", "schatten"]
    argv = ["schatten", *arguments]
    entry = _library.load().schatten_main
    entry.argtypes, entry.restype = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p], ctypes.c_int
    sys.stdout.flush()
    return int(entry(len(argv), _words(argv), _words(program)))


def start_again_with_patient_threads() -> None:
    """libgomp, which comes with torch, reads its settings when it is loaded; the program does the same, see cli/main.cpp."""
    if "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
        return
    os.environ["GOMP_SPINCOUNT"] = "5000"
    if "torch" in sys.modules:  # too late for this process
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def main() -> int:
    try:
        start_again_with_patient_threads()
        return run(sys.argv[1:])
    except KeyboardInterrupt:  # before the command began
        return 130
    except ImportError as error:
        if error.name != "schatten":
            raise
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
