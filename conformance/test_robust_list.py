"""Lists of robust futexes: set_robust_list(2), get_robust_list(2)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.alike import Make, by_any_process
from pytest_procsemantics.driven import Observer, Out, Step, fails
from pytest_procsemantics.driven.constants import (
    EFAULT,
    EINVAL,
    ENOENT,
    EPERM,
    ESRCH,
    FUTEX_OWNER_DIED,
    FUTEX_WAITERS,
    FUTEX_WAKE,
    PR_SET_DUMPABLE,
    SIGKILL,
)
from pytest_procsemantics.driven.futexes import waits_on
from pytest_procsemantics.lies import (
    Liar,
    Lie,
    before_call,
    before_exec,
    by_maker_too,
    in_child,
    in_library_child,
    leaves_out,
    lie,
    passes,
    reports,
)

HEAD = struct.Struct("<QqQ")  # first entry; from an entry to its word; pending entry
HEAD_SIZE = HEAD.size
WORD_AT = 8  # where an entry's word lies
ENTRY = struct.Struct("<QI4x")  # next entry, word
FIRST = 64  # where the entries begin, from the head on
LIMIT = 2048  # entries that the kernel follows (robust-futexes in the kernel's documents)
NOWHERE = 8  # in the page at 0, where nothing is mapped
UNUSED = 2147483647  # above every limit of process numbers
MARKED = FUTEX_OWNER_DIED

NO_LIST = leaves_out("set_robust_list")


class _KeepsTheFirst(Liar):
    has_one = False

    def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
        if name == "set_robust_list":
            if self.has_one:
                self.tell()
                number = self.sys.number("sched_yield")
            self.has_one = True
        return super().ask_call(name, number, args, decode)


KEEPS_THE_FIRST = Lie("the first list stays", _KeepsTheFirst)


def make_list(process: Process) -> int:
    """An empty list in memory that children of a process share; gives the address of its head."""
    head = process.allocate(1 << 16, shared=True)
    process.store(head, HEAD.pack(head, WORD_AT, 0))
    return head


def lists(owner: Process, head: int, *words: int, last: int | None = None) -> None:
    """Let a thread have a list of words.

    Args:
        owner: whose list it is.
        head: its address.
        *words: what they hold.
        last: where the last entry leads; None: back to the head.
    """
    entries = [word(head, index) - WORD_AT for index in range(len(words))]
    following = [*entries[1:], head if last is None else last]
    owner.store(head, HEAD.pack(entries[0], WORD_AT, 0))
    owner.store(entries[0], b"".join(map(ENTRY.pack, following, words)))
    owner.sys.set_robust_list(head, HEAD_SIZE)


def words_of(process: Process, head: int, count: int) -> list[int]:
    """What the words of a list hold."""
    chain = process.load_bytes(head + FIRST, ENTRY.size * count)
    return [word for _, word in ENTRY.iter_unpack(chain)]


def word(head: int, index: int = 0) -> int:
    """The address of a word of a list."""
    return head + FIRST + ENTRY.size * index + WORD_AT


# --- the head ---


@clause("get_robust_list.2/list-is-per-thread")
@lie(by_maker_too("set_robust_list"))
def test_each_thread_has_a_list_of_its_own(parent: Process) -> None:
    thread = parent.thread()
    first, second = make_list(parent), make_list(parent)
    parent.sys.set_robust_list(first, HEAD_SIZE)
    thread.sys.set_robust_list(second, HEAD_SIZE)
    assert parent.sys.get_robust_list(parent.tid) == (first, HEAD_SIZE)
    assert parent.sys.get_robust_list(thread.tid) == (second, HEAD_SIZE)


@clause("get_robust_list.2/set-records-head")
@lie(NO_LIST, KEEPS_THE_FIRST)
def test_the_head_is_recorded(parent: Process) -> None:
    first, second = make_list(parent), make_list(parent)
    parent.sys.set_robust_list(first, HEAD_SIZE)
    assert parent.sys.get_robust_list() == (first, HEAD_SIZE)
    parent.sys.set_robust_list(second, HEAD_SIZE)
    assert parent.sys.get_robust_list() == (second, HEAD_SIZE)


def has_one(process: Process) -> None:
    """Take an empty list."""
    process.sys.set_robust_list(make_list(process), HEAD_SIZE)


@clause("get_robust_list.2/head-null-by-default")
@lie(in_child("it begins with one", has_one))
def test_a_new_thread_has_no_list(parent: Process) -> None:
    has_one(parent)
    assert parent.thread().sys.get_robust_list() == (0, HEAD_SIZE)


@by_any_process("get_robust_list.2/not-inherited-by-fork")
@lie(in_child("it begins with one", has_one))
def test_a_child_has_no_list(parent: Process, make: Make) -> None:
    has_one(parent)
    assert make(parent).sys.get_robust_list() == (0, HEAD_SIZE)


@clause("get_robust_list.2/get-of-other-thread")
@lie(passes("its own", "get_robust_list", 0, 0))
def test_the_list_of_another_thread_or_process_can_be_asked_for(parent: Process) -> None:
    child, thread = parent.fork(), parent.thread()
    of_child, of_thread = make_list(child), make_list(parent)
    child.sys.set_robust_list(of_child, HEAD_SIZE)
    thread.sys.set_robust_list(of_thread, HEAD_SIZE)
    assert parent.sys.get_robust_list(child.tid) == (of_child, HEAD_SIZE)
    assert parent.sys.get_robust_list(thread.tid) == (of_thread, HEAD_SIZE)


@clause("get_robust_list.2/get-zero-is-self")
@lie(NO_LIST)
def test_0_is_the_caller(parent: Process) -> None:
    thread, head = parent.thread(), make_list(parent)
    thread.sys.set_robust_list(head, HEAD_SIZE)
    assert thread.sys.get_robust_list(0) == thread.sys.get_robust_list(thread.tid)
    assert thread.sys.get_robust_list(0) == (head, HEAD_SIZE)


@clause("get_robust_list.2/get-stores-length")
@lie(leaves_out("get_robust_list"))
def test_the_length_is_stored(parent: Process) -> None:
    assert parent.sys.get_robust_list()[1] == HEAD_SIZE


@clause("get_robust_list.2/set-len-is-size-of-head")
@lie(passes("another length", "set_robust_list", 1, HEAD_SIZE + 8))
def test_the_length_is_that_of_the_head(parent: Process) -> None:
    assert parent.sys.set_robust_list(make_list(parent), HEAD_SIZE) == 0


@clause("get_robust_list.2/return-zero-on-success")
@lie(
    reports("set_robust_list gives 1", "set_robust_list", lambda _: 1),
    reports("get_robust_list gives 1", "get_robust_list", lambda answer: (1, *answer[1:])),
)
def test_success_is_0(parent: Process) -> None:
    assert parent.sys.set_robust_list(make_list(parent), HEAD_SIZE) == 0
    assert parent.sys.raw("get_robust_list", 0, Out(8), Out(8))[0] == 0


# --- refused ---


@clause("get_robust_list.2/einval-length")
@lie(passes("the right length", "set_robust_list", 1, HEAD_SIZE))
@pytest.mark.parametrize("length", [0, HEAD_SIZE - 1, HEAD_SIZE + 1])
def test_another_length_is_refused(parent: Process, length: int) -> None:
    head = make_list(parent)
    parent.sys.set_robust_list(head, HEAD_SIZE)
    with fails(EINVAL):
        parent.sys.set_robust_list(make_list(parent), length)
    assert parent.sys.get_robust_list()[0] == head


@clause("get_robust_list.2/efault-head-pointer")
@lie(leaves_out("get_robust_list"))
def test_a_bad_address_is_refused(parent: Process) -> None:
    with fails(EFAULT):
        parent.sys.raw("get_robust_list", 0, NOWHERE, Out(8))
    with fails(EFAULT):
        parent.sys.raw("get_robust_list", 0, Out(8), NOWHERE)


@clause("get_robust_list.2/esrch")
@lie(passes("it is the caller", "get_robust_list", 0, 0))
def test_the_number_of_no_thread_is_refused(parent: Process, observer: Observer) -> None:
    thread = parent.thread()
    thread.exit_thread()
    observer.wait_until_gone(thread)
    with fails(ESRCH):
        parent.sys.get_robust_list(thread.tid)
    with fails(ESRCH):
        parent.sys.get_robust_list(UNUSED)
    with fails(ESRCH):
        parent.sys.get_robust_list(-1)


@clause("get_robust_list.2/permission-read-realcreds")
@lie(leaves_out("setresuid"))
def test_the_list_of_another_users_process_is_refused(parent: Process) -> None:
    asked, asks = parent.fork("asked"), parent.fork("asks")
    asked.sys.setresuid(1000, 1000, 1000)
    asked.sys.prctl(PR_SET_DUMPABLE, 1)
    asks.sys.setresuid(1000, 1000, 1000)
    assert asks.sys.get_robust_list(asked.tid) == (0, HEAD_SIZE)
    with fails(EPERM):
        asks.sys.get_robust_list(parent.tid)


# --- the end of an owner ---


def owns_all(process: Process) -> None:
    """Put the owner's number into each word of its list."""
    head, entry = process.sys.get_robust_list()[0], 0
    while entry != head:
        entry = process.load(entry or head)
        if entry != head:
            process.store(entry + WORD_AT, process.tid.to_bytes(4, "little"))


def sets_waiters_bit(process: Process) -> None:
    """Say in the first word of the list that somebody waits."""
    head = process.sys.get_robust_list()[0]
    process.store(word(head), (process.tid | FUTEX_WAITERS).to_bytes(4, "little"))


@clause("get_robust_list.2/owner-died-keeps-waiters-bit")
@lie(NO_LIST, before_call("exit_group", "the bit is cleared", owns_all))
def test_the_bit_for_waiters_stays(parent: Process) -> None:
    head, child = make_list(parent), parent.fork()
    lists(child, head, child.tid, child.tid | FUTEX_WAITERS)
    child.exit()
    assert words_of(parent, head, 2) == [MARKED, MARKED | FUTEX_WAITERS]


@clause("get_robust_list.2/foreign-owner-untouched")
@lie(before_call("exit_group", "it owns all", owns_all))
def test_the_futex_of_another_owner_is_left_alone(parent: Process) -> None:
    head, child = make_list(parent), parent.fork()
    lists(child, head, child.tid, child.tid + 1, child.tid)
    other = child.tid + 1
    child.exit()
    assert words_of(parent, head, 3) == [MARKED, other, MARKED]


@clause("get_robust_list.2/head-is-not-checked")
@lie(NO_LIST, passes("it ends otherwise", "exit_group", 0, 139))
def test_a_list_that_leads_nowhere_does_no_harm(parent: Process) -> None:
    head, child = make_list(parent), parent.fork()
    lists(child, head, child.tid, last=NOWHERE)
    child.exit(3)
    assert words_of(parent, head, 1) == [MARKED]
    assert child.wait_for_exit().code == 3


@clause("get_robust_list.2/head-is-not-checked")
@lie(passes("another length", "set_robust_list", 1, 0))
def test_a_bad_address_of_a_head_does_no_harm(parent: Process) -> None:
    child = parent.fork()
    assert child.sys.set_robust_list(NOWHERE, HEAD_SIZE) == 0
    child.exit(3)
    assert child.wait_for_exit().code == 3


@clause("get_robust_list.2/pending-operation-is-handled")
@lie(NO_LIST)
def test_the_entry_that_is_pending_is_marked(parent: Process) -> None:
    head, child = make_list(parent), parent.fork()
    lists(child, head, child.tid)
    child.store(head, HEAD.pack(head, WORD_AT, head + FIRST))
    child.exit()
    assert words_of(parent, head, 1) == [MARKED]


def cuts_it_short(process: Process) -> None:
    """Let the first entry of the list be its last."""
    head = process.sys.get_robust_list()[0]
    process.store(head + FIRST, head)


@clause("get_robust_list.2/list-walk-is-limited")
@lie(NO_LIST, before_call("exit_group", "it goes less far", cuts_it_short))
def test_a_list_is_followed_so_far_only(parent: Process) -> None:
    head, child = make_list(parent), parent.fork()
    lists(child, head, *[child.tid] * (LIMIT + 100))
    child.exit()
    assert words_of(parent, head, LIMIT + 100) == [MARKED] * LIMIT + [child.tid] * 100


@clause("get_robust_list.2/list-walk-is-limited")
@lie(NO_LIST)
def test_a_list_without_an_end_hangs_nobody(parent: Process) -> None:
    head, child = make_list(parent), parent.fork()
    lists(child, head, child.tid, child.tid, last=head + FIRST)
    child.exit()
    assert words_of(parent, head, 2) == [MARKED, MARKED]


@clause("get_robust_list.2/cleared-head-marks-nothing")
@lie(KEEPS_THE_FIRST)
def test_after_the_head_is_cleared_nothing_is_marked(parent: Process) -> None:
    head, child = make_list(parent), parent.fork()
    lists(child, head, child.tid)
    child.sys.set_robust_list(0, HEAD_SIZE)
    child.exit()
    assert words_of(parent, head, 1) == [child.tid]


@clause("get_robust_list.2/one-list-per-thread")
@lie(KEEPS_THE_FIRST)
def test_a_second_list_takes_the_place_of_the_first(parent: Process) -> None:
    first, second, child = make_list(parent), make_list(parent), parent.fork()
    lists(child, first, child.tid)
    lists(child, second, child.tid)
    child.exit()
    assert words_of(parent, first, 1) == [child.tid]
    assert words_of(parent, second, 1) == [MARKED]


# --- who waits ---


def wakes_all(process: Process) -> None:
    """Wake whoever waits on the first word of the list."""
    process.sys.futex(word(process.sys.get_robust_list()[0]), FUTEX_WAKE, 2)


@clause("get_robust_list.2/waiter-is-woken")
@lie(
    leaves_out("set_robust_list", hangs=True), before_call("exit_group", "all are woken", wakes_all)
)
def test_one_of_those_that_wait_is_woken(parent: Process, target: Target) -> None:
    head, child = make_list(parent), parent.fork()
    lists(child, head, child.tid | FUTEX_WAITERS)
    first = waits_on(parent.thread("first"), word(head))
    second = waits_on(parent.thread("second"), word(head))
    child.exit()
    target.wait_until(lambda: first.ready or second.ready, "one that waits to be woken")
    assert parent.sys.futex(word(head), FUTEX_WAKE, 2) == 1


@clause("get_robust_list.2/no-wake-without-waiters-bit")
@lie(before_call("exit_group", "the bit is there", sets_waiters_bit))
def test_without_the_bit_nobody_is_woken(parent: Process) -> None:
    head, child = make_list(parent), parent.fork()
    lists(child, head, child.tid)
    waiting = waits_on(parent.thread(), word(head))
    child.exit()
    assert words_of(parent, head, 1) == [MARKED]
    assert not waiting.ready
    assert parent.sys.futex(word(head), FUTEX_WAKE, 2) == 1
    assert waiting.arrives() == 0


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(
            lambda child: child.exit(),
            id="exit",
            marks=clause("get_robust_list.2/owner-died-on-process-exit"),
        ),
        pytest.param(
            lambda child: child.parent.sys.kill(child.own_pid, SIGKILL),
            id="signal",
            marks=clause("get_robust_list.2/owner-died-on-death-by-signal"),
        ),
        pytest.param(
            Process.execve, id="exec", marks=clause("get_robust_list.2/owner-died-on-exec")
        ),
    ],
)
@lie(leaves_out("set_robust_list", hangs=True))
def test_the_futex_is_marked_and_who_waits_in_another_process_woken(
    parent: Process, end: Callable[[Process], object]
) -> None:
    head, child = make_list(parent), parent.fork()
    lists(child, head, child.tid | FUTEX_WAITERS)
    waiting = waits_on(parent.thread(), word(head))
    end(child)
    assert waiting.arrives() == 0
    assert words_of(parent, head, 1) == [MARKED | FUTEX_WAITERS]


def marks_all(process: Process) -> None:
    """Mark the first word of the list, as the end of its owner does."""
    head = process.sys.get_robust_list()[0]
    process.store(word(head), MARKED.to_bytes(4, "little"))


@clause("get_robust_list.2/failed-exec-marks-nothing")
@lie(
    before_exec("the words are marked", marks_all),
    before_exec("the list is gone", lambda process: process.sys.set_robust_list(0, HEAD_SIZE)),
)
def test_an_exec_that_fails_leaves_list_and_words(parent: Process, target: Target) -> None:
    head, child = make_list(parent), parent.fork()
    lists(child, head, child.tid)
    with fails(ENOENT):
        child.execve(f"{target.folder()}/missing")
    assert child.sys.get_robust_list() == (head, HEAD_SIZE)
    assert words_of(parent, head, 1) == [child.tid]


# --- the C library ---


@clause("get_robust_list.2/glibc-registers-for-each-thread")
@lie(
    in_library_child("it has none", lambda new: new.sys.set_robust_list(0, HEAD_SIZE)),
    in_library_child("it has its maker's", lambda new: new.sys.set_robust_list(NOWHERE, HEAD_SIZE)),
)
def test_glibc_gives_each_thread_and_forked_child_a_list(program: Process) -> None:
    mine = program.sys.get_robust_list()[0]
    assert program.lib.pthread_create().sys.get_robust_list()[0] not in (0, mine)
    program.sys.set_robust_list(NOWHERE, HEAD_SIZE)
    assert program.lib.fork().sys.get_robust_list()[0] not in (0, NOWHERE)
