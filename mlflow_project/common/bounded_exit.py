"""The end of a process that threads of somebody else's code would hold up for ever."""

import atexit
import os
import sys
import threading

SECONDS = 5.0  # that such threads get to end by themselves


def bound_exit(status: int) -> None:
    """Ends the process with this status though threads still run, some seconds from now; says which.

    To be called when nothing but the exit is left to do.
    """
    over = threading.Event()
    atexit.register(over.set)  # Python gets there once it has waited for all threads
    threading.Thread(target=_end, args=(over, status), name="end", daemon=True).start()


def _end(over: threading.Event, status: int) -> None:
    if over.wait(SECONDS):
        return
    left = [t.name for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
    if not left:
        return  # what takes so long is something else
    print(
        f"Warning: the process ends without threads still running ({', '.join(left)}); "
        "a net's threads should be made with daemon=True, or ended by it",
        file=sys.stderr,
    )
    sys.stdout.flush()
    os._exit(status)
