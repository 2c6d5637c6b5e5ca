"""Jobs that kill the process that does them; a module of its own, so that a worker starts at once."""

import os
import signal


def die_once(marker, number):
    """Kills its worker the first time that it is done."""
    if number == 1 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * 10


def die_always(marker, number):
    """Kills every worker."""
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * 10
