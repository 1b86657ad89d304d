"""Processes that a test drives by hand, on this machine's kernel or behind any command that runs a Linux executable.

Works without pytest:

    with Target.open() as target, target.test():
        parent = target.new_process()
        child = parent.vfork()
"""

from pytest_procsemantics.driven.call import Out as Out
from pytest_procsemantics.driven.errors import CallFailed as CallFailed
from pytest_procsemantics.driven.errors import Deviation as Deviation
from pytest_procsemantics.driven.errors import Ended as Ended
from pytest_procsemantics.driven.errors import Overdue as Overdue
from pytest_procsemantics.driven.errors import StartFailed as StartFailed
from pytest_procsemantics.driven.errors import TargetLost as TargetLost
from pytest_procsemantics.driven.errors import Unsupported as Unsupported
from pytest_procsemantics.driven.errors import UsageProblem as UsageProblem
from pytest_procsemantics.driven.expect import fails as fails
from pytest_procsemantics.driven.observer import Observer as Observer
from pytest_procsemantics.driven.process import Exit as Exit
from pytest_procsemantics.driven.process import Process as Process
from pytest_procsemantics.driven.program import AGENT as AGENT
from pytest_procsemantics.driven.step import Step as Step
from pytest_procsemantics.driven.target import Target as Target
