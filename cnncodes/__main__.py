"""The start and the end of the program: ``cnncodes``, and ``python -m cnncodes``."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading

from cnncodes.system.interrupt import INTERRUPTED, end_when_interrupted, ignore_interruptions


def run() -> None:
    """Run the command line; where torch was at work, or the command was interrupted, end at once.

    SIGTERM interrupts a command as Ctrl-C does.

    Python would tear down torch object by object: that takes 0.4 s, up to seconds while a decoder hangs, and Python
    aborts when a thread is inside torch at that time. All files are closed by then.
    """
    try:
        end_when_interrupted()
        from cnncodes.system.process import has_workers, own_process

        own_process()
        from cnncodes.cli.main import main

        main()
    except KeyboardInterrupt:  # before there was a command
        with contextlib.suppress(AttributeError, OSError):  # standard error may be closed
            sys.stderr.write("interrupted\n")
        code: int | str | None = INTERRUPTED
    except (ImportError, MemoryError, OSError) as error:  # before there was a command, too
        from cnncodes.system.memory import is_shortage, shortage

        if not is_shortage(error):
            raise
        sys.stderr.write(f"error: {shortage(error)}\n")
        code = 1
    except SystemExit as end:
        ignore_interruptions()  # all is done, and Python would let a signal end it in another way
        code = end.code
        if code != INTERRUPTED and not has_workers():
            others = [one for one in threading.enumerate() if one is not threading.main_thread() and not one.daemon]
            if "torch" not in sys.modules or others:
                raise
            atexit._run_exitfuncs()
    if code == INTERRUPTED and "multiprocessing.util" in sys.modules:  # or joblib warns of semaphores that are left
        sys.modules["multiprocessing.util"]._run_finalizers(0)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except OSError:
                code = code or 1
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    run()
