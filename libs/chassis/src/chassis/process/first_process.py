"""The first process of a container: `python -m chassis.process.first_process python -m user_service`.

The kernel spares the first process what a signal does by default: a service in that place would not hear SIGTERM
while it is being imported, or while it waits for a migration. It is therefore started as a child, and this process
hands signals on to it, collects whatever ends, and ends with its status.
"""

import os
import signal
import sys

_HANDED_ON = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}


def run(command: list[str]) -> int:
    """Run the command to its end; its exit status, as a shell would give it."""
    # Blocked signals wait until they are asked for; none can get lost on the way, or come too early.
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_HANDED_ON, signal.SIGCHLD})
    # In a session of its own, so that Ctrl-C on a terminal reaches it once, through here.
    child = os.posix_spawnp(command[0], command, os.environ, setsigmask=[], setsid=True)
    while True:
        number = signal.sigwait({*_HANDED_ON, signal.SIGCHLD})
        if number != signal.SIGCHLD:
            os.kill(child, number)
            continue
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:  # One signal may stand for several that have ended.
            if ended[0] == child:
                status = os.waitstatus_to_exitcode(ended[1])
                return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
