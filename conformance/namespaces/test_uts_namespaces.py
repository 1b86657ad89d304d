"""uts_namespaces(7): host and domain name."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven.constants import CLONE_NEWUTS
from pytest_procsemantics.lies import leaves_out, lie
from pytest_procsemantics.requirements import own_namespaces

STAYS = leaves_out("unshare")


def new_member(parent: Process) -> Process:
    """A child in a new namespace; the parent has another one of its own."""
    own_namespaces(parent, CLONE_NEWUTS)
    parent.sys.sethostname(b"before")
    parent.sys.setdomainname(b"before")
    member = parent.fork("member")
    member.sys.unshare(CLONE_NEWUTS)
    return member


@clause("uts_namespaces.7/hostname-isolated", "uts_namespaces.7/changes-unseen-outside")
@lie(STAYS)
def test_the_host_name_is_the_namespaces(parent: Process) -> None:
    member = new_member(parent)
    member.sys.sethostname(b"inside")
    assert (member.sys.uname().nodename, parent.sys.uname().nodename) == ("inside", "before")
    parent.sys.sethostname(b"outside")
    assert (member.sys.uname().nodename, parent.sys.uname().nodename) == ("inside", "outside")


@clause("uts_namespaces.7/domainname-isolated")
@lie(STAYS)
def test_the_domain_name_is_the_namespaces(parent: Process) -> None:
    member = new_member(parent)
    member.sys.setdomainname(b"inside")
    assert (member.sys.uname().domainname, parent.sys.uname().domainname) == ("inside", "before")
