"""prctl(2): PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS, PR_SET_SECUREBITS and sets of capabilities."""

from __future__ import annotations

import struct

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import Make, by_any_primitive
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CAP_CHOWN,
    CAP_NET_RAW,
    CAP_SETUID,
    CLONE_NEWUSER,
    EINVAL,
    EPERM,
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAP_AMBIENT_IS_SET,
    PR_CAP_AMBIENT_LOWER,
    PR_CAP_AMBIENT_RAISE,
    PR_CAPBSET_DROP,
    PR_CAPBSET_READ,
    PR_GET_KEEPCAPS,
    PR_GET_NO_NEW_PRIVS,
    PR_GET_SECUREBITS,
    PR_SET_KEEPCAPS,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECUREBITS,
    SECBIT_KEEP_CAPS,
    SECBIT_KEEP_CAPS_LOCKED,
    SECBIT_NO_CAP_AMBIENT_RAISE,
    SECBIT_NO_SETUID_FIXUP,
    SECBIT_NO_SETUID_FIXUP_LOCKED,
    SECBIT_NOROOT,
)
from pytest_procsemantics.driven.forms import capability
from pytest_procsemantics.lies import (
    before_call,
    by_maker_too,
    in_child,
    in_image,
    leaves_out,
    lie,
    passes,
)
from pytest_procsemantics.requirements import expect_new_privileges, own_namespaces

NOT_SET = leaves_out("prctl")
NO_CAPABILITY = 99
NOT_DROPPED = passes(
    "nothing is dropped",
    "prctl",
    0,
    lambda option: PR_CAPBSET_READ if option == PR_CAPBSET_DROP else option,
)


# --- PR_SET_KEEPCAPS ---


@by_any_primitive("prctl.2/keepcaps-inherited-by-fork")
@lie(in_child("it is cleared", lambda child: child.sys.prctl(PR_SET_KEEPCAPS, 0)))
def test_a_child_has_its_makers_keepcaps(parent: Process, make: Make) -> None:
    parent.sys.prctl(PR_SET_KEEPCAPS, 1)
    assert make(parent).sys.prctl(PR_GET_KEEPCAPS) == 1


@clause("prctl.2/keepcaps-is-per-thread")
@lie(by_maker_too("prctl"))
def test_keepcaps_belongs_to_the_thread(parent: Process) -> None:
    thread = parent.thread()
    thread.sys.prctl(PR_SET_KEEPCAPS, 1)
    assert thread.sys.prctl(PR_GET_KEEPCAPS) == 1
    assert parent.sys.prctl(PR_GET_KEEPCAPS) == 0


@clause("prctl.2/keepcaps-keeps-permitted-set")
@lie(NOT_SET)
def test_with_keepcaps_permitted_capabilities_outlive_the_loss_of_user_0(parent: Process) -> None:
    before = parent.sys.capget().permitted
    parent.sys.prctl(PR_SET_KEEPCAPS, 1)
    parent.sys.setresuid(1000, 1000, 1000)
    assert parent.sys.capget().permitted == before > 0
    assert parent.sys.capget().effective == 0


@clause("prctl.2/keepcaps-keeps-permitted-set")
@lie(before_call("setresuid", "it is set", lambda parent: parent.sys.prctl(PR_SET_KEEPCAPS, 1)))
def test_without_keepcaps_permitted_capabilities_are_lost_with_user_0(parent: Process) -> None:
    parent.sys.setresuid(1000, 1000, 1000)
    assert parent.sys.capget().permitted == 0


@clause("prctl.2/keepcaps-einval")
@lie(passes("2 is 1", "prctl", 1, lambda value: min(value, 1)))
def test_keepcaps_is_zero_or_one(parent: Process) -> None:
    with fails(EINVAL):
        parent.sys.prctl(PR_SET_KEEPCAPS, 2)
    assert parent.sys.prctl(PR_GET_KEEPCAPS) == 0


@clause("prctl.2/keepcaps-locked")
@lie(NOT_SET)
def test_a_locked_keepcaps_cannot_be_set(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    parent.sys.prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS_LOCKED)
    with fails(EPERM):
        parent.sys.prctl(PR_SET_KEEPCAPS, 1)
    assert parent.sys.prctl(PR_GET_KEEPCAPS) == 0


# --- PR_SET_NO_NEW_PRIVS ---


@by_any_primitive("prctl.2/no-new-privs-inherited-by-children")
@lie(NOT_SET)
def test_a_child_has_its_makers_no_new_privs(
    parent: Process, observer: Observer, make: Make
) -> None:
    parent.sys.prctl(PR_SET_NO_NEW_PRIVS, 1)
    child = make(parent)
    assert child.sys.prctl(PR_GET_NO_NEW_PRIVS) == 1
    assert observer.status_field(child, "NoNewPrivs") == "1"


@clause("prctl.2/no-new-privs-is-per-thread")
@lie(by_maker_too("prctl"))
def test_no_new_privs_belongs_to_the_thread(parent: Process) -> None:
    expect_new_privileges(parent)
    thread = parent.thread()
    thread.sys.prctl(PR_SET_NO_NEW_PRIVS, 1)
    assert thread.sys.prctl(PR_GET_NO_NEW_PRIVS) == 1
    assert parent.sys.prctl(PR_GET_NO_NEW_PRIVS) == 0


@clause("prctl.2/no-new-privs-cannot-be-unset")
@lie(passes("0 is accepted", "prctl", 1, lambda value: value or 1), NOT_SET)
def test_no_new_privs_cannot_be_unset(parent: Process) -> None:
    parent.sys.prctl(PR_SET_NO_NEW_PRIVS, 1)
    with fails(EINVAL):
        parent.sys.prctl(PR_SET_NO_NEW_PRIVS, 0)
    assert parent.sys.prctl(PR_GET_NO_NEW_PRIVS) == 1


@clause("prctl.2/no-new-privs-in-status")
@lie(NOT_SET)
def test_the_status_file_shows_no_new_privs(parent: Process, observer: Observer) -> None:
    expect_new_privileges(parent)
    child = parent.fork()
    before = observer.status_field(child, "NoNewPrivs")
    child.sys.prctl(PR_SET_NO_NEW_PRIVS, 1)
    assert (before, observer.status_field(child, "NoNewPrivs")) == ("0", "1")


@clause("prctl.2/no-new-privs-einval")
@lie(NOT_SET)
@pytest.mark.parametrize(
    "args",
    [
        pytest.param((PR_SET_NO_NEW_PRIVS, 2, 0, 0, 0), id="2"),
        pytest.param((PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0), id="third"),
        pytest.param((PR_SET_NO_NEW_PRIVS, 1, 0, 1, 0), id="fourth"),
        pytest.param((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 1), id="fifth"),
        pytest.param((PR_GET_NO_NEW_PRIVS, 1, 0, 0, 0), id="get"),
    ],
)
def test_other_arguments_of_no_new_privs_are_refused(
    parent: Process, args: tuple[int, ...]
) -> None:
    expect_new_privileges(parent)
    with fails(EINVAL):
        parent.sys.prctl(*args)
    assert parent.sys.prctl(PR_GET_NO_NEW_PRIVS) == 0


# --- PR_SET_SECUREBITS ---

BITS = SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS
LOCKED = SECBIT_NO_SETUID_FIXUP_LOCKED


@by_any_primitive("prctl.2/securebits-inherited-by-children")
@lie(in_child("they are cleared", lambda child: child.sys.prctl(PR_SET_SECUREBITS, 0)))
def test_a_child_has_its_makers_secure_bits(parent: Process, make: Make) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    parent.sys.prctl(PR_SET_SECUREBITS, BITS)
    assert make(parent).sys.prctl(PR_GET_SECUREBITS) == BITS


@clause("prctl.2/securebits-kept-over-exec")
@lie(
    in_image("exec keeps all", lambda image: image.sys.prctl(PR_SET_SECUREBITS, BITS)),
    in_image("exec clears all", lambda image: image.sys.prctl(PR_SET_SECUREBITS, 0)),
)
def test_secure_bits_stay_over_exec_but_for_keep_caps(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    parent.sys.prctl(PR_SET_SECUREBITS, BITS)
    parent.execve()
    assert parent.sys.prctl(PR_GET_SECUREBITS) == SECBIT_NO_SETUID_FIXUP


@clause("prctl.2/securebits-eperm")
@lie(leaves_out("capset"))
def test_secure_bits_take_a_capability(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    parent.sys.capset(0, 0, 0)
    with fails(EPERM):
        parent.sys.prctl(PR_SET_SECUREBITS, BITS)
    assert parent.sys.prctl(PR_GET_SECUREBITS) == 0


@clause("prctl.2/securebits-eperm")
@lie(passes("nothing is locked", "prctl", 1, lambda bits: bits & ~LOCKED))
def test_a_locked_secure_bit_cannot_be_changed(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    parent.sys.prctl(PR_SET_SECUREBITS, BITS | LOCKED)
    with fails(EPERM):
        parent.sys.prctl(PR_SET_SECUREBITS, LOCKED)
    assert parent.sys.prctl(PR_GET_SECUREBITS) == BITS | LOCKED


# --- the bounding set ---


@by_any_primitive("prctl.2/bounding-drop-inherited-by-children")
@lie(NOT_DROPPED)
def test_a_child_has_its_makers_bounding_set(parent: Process, make: Make) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    parent.sys.prctl(PR_CAPBSET_DROP, CAP_SETUID)
    child = make(parent)
    assert child.sys.prctl(PR_CAPBSET_READ, CAP_SETUID) == 0
    assert child.sys.prctl(PR_CAPBSET_READ, CAP_CHOWN) == 1


@clause("prctl.2/bounding-set-kept-over-exec")
@lie(NOT_DROPPED)
def test_the_bounding_set_stays_over_exec(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    parent.sys.prctl(PR_CAPBSET_DROP, CAP_SETUID)
    parent.execve()
    assert parent.sys.prctl(PR_CAPBSET_READ, CAP_SETUID) == 0
    assert parent.sys.prctl(PR_CAPBSET_READ, CAP_CHOWN) == 1


@clause("prctl.2/bounding-drop-is-per-thread")
@lie(by_maker_too("prctl"))
def test_the_bounding_set_belongs_to_the_thread(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    thread = parent.thread()
    thread.sys.prctl(PR_CAPBSET_DROP, CAP_SETUID)
    assert thread.sys.prctl(PR_CAPBSET_READ, CAP_SETUID) == 0
    assert parent.sys.prctl(PR_CAPBSET_READ, CAP_SETUID) == 1


@clause("prctl.2/bounding-drop-needs-setpcap")
@lie(leaves_out("capset"))
def test_a_drop_from_the_bounding_set_takes_a_capability(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    parent.sys.capset(0, 0, 0)
    with fails(EPERM):
        parent.sys.prctl(PR_CAPBSET_DROP, CAP_SETUID)
    assert parent.sys.prctl(PR_CAPBSET_READ, CAP_SETUID) == 1


@clause("prctl.2/bounding-invalid-capability")
@lie(passes("it is one", "prctl", 1, CAP_CHOWN))
@pytest.mark.parametrize(
    "option",
    [pytest.param(PR_CAPBSET_DROP, id="drop"), pytest.param(PR_CAPBSET_READ, id="read")],
)
def test_a_number_that_is_no_capability_is_refused(parent: Process, option: int) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    with fails(EINVAL):
        parent.sys.prctl(option, NO_CAPABILITY)


# --- the ambient set ---


def can_raise(process: Process) -> None:
    """Give a process the capability among those that are permitted and inheritable."""
    own_namespaces(process, CLONE_NEWUSER)
    makes_inheritable(process)


def makes_inheritable(process: Process) -> None:
    """Put the capability into the inheritable set."""
    has = process.sys.capget()
    process.sys.capset(has.effective, has.permitted, capability("NET_RAW"))


def still_permitted(sets: bytes) -> bytes:
    """The sets for capset (capset(2): effective, permitted and inheritable), with the capability in each."""
    low = [mask | capability("NET_RAW") for mask in struct.unpack_from("<3I", sets)]
    return struct.pack("<3I", *low) + sets[12:]


def is_ambient(process: Process) -> int:
    return int(process.sys.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_RAW))


@clause("prctl.2/ambient-raise")
@lie(NOT_SET)
def test_a_capability_that_is_permitted_and_inheritable_can_be_made_ambient(
    parent: Process, observer: Observer
) -> None:
    can_raise(parent)
    assert is_ambient(parent) == 0
    parent.sys.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW)
    assert is_ambient(parent) == 1
    assert int(observer.status_field(parent, "CapAmb"), 16) == capability("NET_RAW")


@clause("prctl.2/ambient-raise-refused")
@lie(before_call("prctl", "it is inheritable", makes_inheritable))
def test_a_capability_that_is_not_inheritable_cannot_be_made_ambient(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    with fails(EPERM):
        parent.sys.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW)
    assert is_ambient(parent) == 0


@clause("prctl.2/ambient-raise-refused")
@lie(passes("it is permitted", "capset", 1, still_permitted))
def test_a_capability_that_is_not_permitted_cannot_be_made_ambient(parent: Process) -> None:
    can_raise(parent)
    has = parent.sys.capget()
    rest = has.permitted & ~capability("NET_RAW")
    parent.sys.capset(rest, rest, has.inheritable)
    with fails(EPERM):
        parent.sys.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW)
    assert is_ambient(parent) == 0


@clause("prctl.2/ambient-raise-refused-by-securebit")
@lie(NOT_SET)
def test_with_no_cap_ambient_raise_nothing_can_be_made_ambient(parent: Process) -> None:
    can_raise(parent)
    parent.sys.prctl(PR_SET_SECUREBITS, SECBIT_NO_CAP_AMBIENT_RAISE)
    with fails(EPERM):
        parent.sys.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW)
    assert is_ambient(parent) == 0


@by_any_primitive("prctl.2/ambient-inherited-by-fork")
@lie(
    in_child(
        "it is cleared", lambda child: child.sys.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    )
)
def test_a_child_has_its_makers_ambient_set(parent: Process, make: Make) -> None:
    can_raise(parent)
    parent.sys.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW)
    assert is_ambient(make(parent)) == 1


@clause("prctl.2/ambient-kept-over-exec")
@lie(
    in_image(
        "exec lowers it",
        lambda image: image.sys.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, CAP_NET_RAW),
    ),
    NOT_SET,
)
def test_an_ambient_capability_is_effective_in_a_new_image(parent: Process) -> None:
    can_raise(parent)
    parent.sys.prctl(PR_SET_SECUREBITS, SECBIT_NOROOT)
    parent.sys.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW)
    parent.execve()
    assert is_ambient(parent) == 1
    has = parent.sys.capget()
    assert has.effective == has.permitted == capability("NET_RAW")
