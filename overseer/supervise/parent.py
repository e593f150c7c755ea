"""The child's side of the death watch: end, with all one's own children, when the parent is gone, however it went.

The parent holds the write end of a pipe and never writes; the child has the read end. When the parent dies, even by SIGKILL,
the kernel closes its end. On Linux the kernel is asked to kill the child's whole process group then: that needs neither
our interpreter nor that we are running (we may be stopped, or stuck in native code). Elsewhere a thread waits for it.
"""

import fcntl
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import wait

__all__ = ["PARENT_FD", "die_with_parent"]

PARENT_FD = "OVERSEER_PARENT_FD"


def die_with_parent() -> bool:
    """Watch the parent; call first thing in a child process. Returns whether there is a parent to watch.

    Works in a supervised child (told by the environment) and in a multiprocessing worker, say of a pool.
    """
    text = os.environ.pop(PARENT_FD, "")
    if text:
        fd = int(text)
        os.set_inheritable(fd, False)
        if sys.platform == "linux" and os.getpgrp() == os.getpid():
            _let_the_kernel_watch(fd)
        _watch(lambda: os.read(fd, 1))
        return True
    parent = multiprocessing.parent_process()
    if parent is not None:
        _watch(lambda: wait([parent.sentinel]))
        return True
    return False


def _watch(parent_gone: Callable[[], object]) -> None:
    def end() -> None:
        parent_gone()
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        # Not the leader of a group: others in it are not ours to kill.
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=end, name="death-watch", daemon=True).start()


def _let_the_kernel_watch(fd: int) -> None:
    """SIGKILL to our process group as soon as the pipe's other end closes."""
    # These belong to the open pipe, not to the descriptor: every child needs a pipe of its own.
    fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
