"""Constants of Linux, and the names of numbers for a reader.

Values are x86_64's. What another machine has otherwise stands in DIFFERENT (O_DIRECTORY and four
more open flags, stack sizes); the call forms translate open flags by the target's machine, so a
check writes O_DIRECTORY and nothing else. SIGRTMIN is the kernel's (32); a libc keeps the first
two or three real-time signals for itself. The numbers of system calls are in constants.calls.
"""

from pytest_procsemantics.driven.constants import values
from pytest_procsemantics.driven.constants.names import errno_name as errno_name
from pytest_procsemantics.driven.constants.names import flag_names as flag_names
from pytest_procsemantics.driven.constants.names import signal_name as signal_name
from pytest_procsemantics.driven.constants.values import *  # noqa: F403  generated: plain numbers

# Two underscores make a name private in a class and invisible to import *: without them.
WALL, WCLONE, WNOTHREAD = values.__WALL, values.__WCLONE, values.__WNOTHREAD
