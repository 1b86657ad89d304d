"""Calls with awkward memory, as Python functions: FORMS maps a call's name to what makes its Call.

A form takes the target's machine, then Python arguments. A call that the machine doesn't have
(open, dup2, pipe, stat ... on aarch64 and riscv64) becomes the one that does the same there; on
x86_64 it is itself. Names without `rt_` or `64` are second names of the same form. Times are
seconds, int or float, unless a form says otherwise. Open flags are x86_64's on every machine. A
path is bytes, str, or the address of one in the target.
"""

# Each module enters its forms into FORMS
from pytest_procsemantics.driven.forms import memory as _memory
from pytest_procsemantics.driven.forms.files import Lock as Lock
from pytest_procsemantics.driven.forms.files import PidfdInfo as PidfdInfo
from pytest_procsemantics.driven.forms.form import FORMS as FORMS
from pytest_procsemantics.driven.forms.form import Form as Form
from pytest_procsemantics.driven.forms.identity import Capabilities as Capabilities
from pytest_procsemantics.driven.forms.identity import Ids as Ids
from pytest_procsemantics.driven.forms.identity import capability as capability
from pytest_procsemantics.driven.forms.ipc import SharedMemory as SharedMemory
from pytest_procsemantics.driven.forms.paths import Stat as Stat
from pytest_procsemantics.driven.forms.processes import Limits as Limits
from pytest_procsemantics.driven.forms.processes import Rusage as Rusage
from pytest_procsemantics.driven.forms.processes import Uname as Uname
from pytest_procsemantics.driven.forms.processes import Waited as Waited
from pytest_procsemantics.driven.forms.scheduling import SchedAttr as SchedAttr
from pytest_procsemantics.driven.forms.signals import Disposition as Disposition
from pytest_procsemantics.driven.forms.signals import SigInfo as SigInfo
from pytest_procsemantics.driven.forms.signals import SignalStack as SignalStack
from pytest_procsemantics.driven.forms.sockets import abstract_address as abstract_address
from pytest_procsemantics.driven.forms.timers import Timer as Timer
from pytest_procsemantics.driven.forms.timers import TimerEvent as TimerEvent
from pytest_procsemantics.driven.forms.timers import Times as Times

_FORMS_ONLY = (_memory,)
