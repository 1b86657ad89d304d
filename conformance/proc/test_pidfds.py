"""proc(5): what fdinfo tells of a pidfd, and to whom."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer
from pytest_procsemantics.driven.constants import CLONE_NEWNS, CLONE_NEWPID, SIGCHLD
from pytest_procsemantics.lies import acts_on_caller, drops, leaves_out, lie
from pytest_procsemantics.requirements import mount_proc, own_namespaces, private_mounts

OF_CALLER = acts_on_caller("pidfd_open")


def fdinfo(process: Process, pidfd: int) -> dict[str, list[str]]:
    """What /proc/self/fdinfo tells a process of a descriptor of its own."""
    lines = Observer(process).read(f"/proc/self/fdinfo/{pidfd}").decode().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


@clause("proc.5/fdinfo-of-pidfd-shows-pid")
@lie(OF_CALLER)
def test_it_has_the_number_of_the_process(parent: Process) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    assert fdinfo(parent, pidfd)["Pid"] == [str(child.pid)]
    child.exit()
    assert fdinfo(parent, pidfd)["Pid"] == [str(child.pid)]


@clause("proc.5/fdinfo-of-pidfd-minus-one-after-reaping")
@lie(leaves_out("wait4"))
def test_of_a_process_that_was_waited_for_it_has_minus_1(parent: Process) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    child.exit()
    parent.sys.wait4(child.own_pid)
    told = fdinfo(parent, pidfd)
    assert (told["Pid"], told["NSpid"]) == (["-1"], ["-1"])


@clause("proc.5/fdinfo-of-pidfd-lists-nested-pids")
@lie(drops(CLONE_NEWPID))
def test_it_has_the_number_in_each_namespace_from_the_readers_inwards(parent: Process) -> None:
    own_namespaces(parent, 0)
    init = parent.clone(CLONE_NEWPID | SIGCHLD, name="init")
    pidfd = parent.sys.pidfd_open(init.pid, 0)
    told = fdinfo(parent, pidfd)
    assert (told["Pid"], told["NSpid"]) == ([str(init.pid)], [str(init.pid), "1"])


@clause("proc.5/fdinfo-of-pidfd-foreign-is-zero")
@lie(leaves_out("mount"))
def test_where_the_process_has_no_number_it_has_0(parent: Process) -> None:
    private_mounts(parent, root=True)
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    sibling = parent.clone(CLONE_NEWPID | CLONE_NEWNS | SIGCHLD, name="sibling")
    mount_proc(sibling, "/proc")
    told = fdinfo(sibling, pidfd)
    assert (told["Pid"], told["NSpid"]) == (["0"], ["0"])
