"""Random sequences of fork, vfork, clone, thread, exec, exit, SIGKILL, load and store, against a model.

The model knows who may answer, what each memory holds and who can reap whom. No other test has
found so many faults of agent and driver: slots that were used again too early, words of the dead,
two processes on one stack.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator

import psutil
import pytest

from pytest_procsemantics.driven import AGENT, CallFailed, Ended, Process, Step, Target
from pytest_procsemantics.driven.constants import (
    CLONE_FILES,
    CLONE_FS,
    CLONE_PARENT,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    ECHILD,
    SIGCHLD,
    SIGKILL,
    WNOHANG,
)
from pytest_procsemantics.native import build

pytestmark = [
    pytest.mark.skipif(not build.supported(), reason=f"no agent for {sys.platform} {build.host()}"),
    pytest.mark.timeout(300),
]

LONGEST = 200  # steps of one sequence
LIVING = 25  # processes and threads at a time
CELLS = 8
PATIENT = 60.0  # seconds: a busy machine is no finding
WALL = 0x40000000  # children with any exit signal (wait(2), __WALL)
THREAD = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_SYSVSEM | CLONE_THREAD
# What a task is made by, and with which flags; 0: fork(2), as the others with SIGCHLD where it is due.
WAYS = (
    ("fork", 0),
    ("vfork", CLONE_VM | CLONE_VFORK),
    ("clone", 0),
    ("clone", CLONE_VM),
    ("clone", CLONE_VFORK),
    ("clone", CLONE_VM | CLONE_VFORK),
    ("clone", CLONE_VM | CLONE_FILES | CLONE_FS),
    ("clone", CLONE_PARENT),
    ("clone", THREAD),
    ("clone", THREAD | CLONE_VFORK),
    ("clone3", 0),
    ("clone3", CLONE_VM | CLONE_VFORK),
    ("clone3", THREAD),
)


class Memory:
    """One address space: the words at the test's cells."""

    def __init__(self, address: int, words: list[int]) -> None:
        self.address = address
        self.words = words


class Group:
    """A process: its threads, and the processes that it can wait for."""

    def __init__(self, parent: Group | None) -> None:
        self.parent = parent
        self.tasks: list[Task] = []
        self.children: set[Group] = set()
        self.pid = 0
        self.is_dead = False
        if parent:
            parent.children.add(self)


class Task:
    """A process or a thread, as it should be."""

    def __init__(self, process: Process, group: Group, memory: Memory) -> None:
        self.process = process
        self.group = group
        self.memory = memory
        self.first_tid = process.tid  # an exec can change it
        self.is_alive = True
        self.freezer: Task | None = None  # the child that must exec or end first
        self.making: Step | None = None  # the call that made it
        self.waiting: list[tuple[Step, int, int]] = []  # what it shall do when it goes on
        group.tasks.append(self)
        if not group.pid:
            group.pid = process.pid


class Sequence:
    """One test on a target: a root process and all that random steps make of it."""

    def __init__(self, target: Target, source: random.Random) -> None:
        self.target = target
        self.random = source
        self.tasks: list[Task] = []
        root = target.new_process("root")
        address = root.allocate(8 * CELLS)
        self.tasks.append(Task(root, Group(None), Memory(address, [0] * CELLS)))
        self.acts: list[tuple[Callable[[Task], None], int]] = [
            (self.load, 20),
            (self.store, 20),
            (self.say_pid, 10),
            (self.ask_many, 5),
            (self.ask_a_frozen_one, 10),
            (self.make, 24),
            (self.execute, 4),
            (self.fail_to_execute, 2),
            (self.reap, 6),
        ]
        self.ends: list[tuple[Callable[[Task], None], int]] = [
            (self.leave, 3),
            (self.leave_as_thread, 5),
            (self.kill, 5),
        ]

    def free(self) -> list[Task]:
        """Those that can answer."""
        return [task for task in self.tasks if task.is_alive and not task.freezer]

    def occupied(self) -> int:
        """Slots in use: a leader that has ended is not gone before its last thread."""
        return sum(not task.process.ended for task in self.tasks)

    def step(self) -> bool:
        """Do one random thing; gives whether anybody is left to do it."""
        free = self.free()
        if not free:
            return False
        # With one end in a while even at few tasks, most sequences would be over before they began.
        is_crowd = len(free) > self.random.randrange(LIVING // 2)
        acts, weights = zip(*self.acts, *(self.ends if is_crowd else ()), strict=True)
        self.random.choices(acts, weights)[0](self.random.choice(free))
        return True

    # --- what a task can do ---

    def load(self, task: Task) -> None:
        cell = self.random.randrange(CELLS)
        assert task.process.load(task.memory.address + 8 * cell) == task.memory.words[cell]

    def store(self, task: Task) -> None:
        cell, value = self.random.randrange(CELLS), self.random.getrandbits(64)
        task.process.store(task.memory.address + 8 * cell, value)
        task.memory.words[cell] = value

    def say_pid(self, task: Task) -> None:
        assert task.process.sys.getpid() == task.group.pid

    def ask_many(self, task: Task) -> None:
        tasks = self.random.choices(self.free(), k=20)
        steps = [(task, task.process.post.sys.getpid()) for task in tasks]
        self.random.shuffle(steps)
        for asked, step in steps:
            assert step.arrives() == asked.group.pid

    def ask_a_frozen_one(self, task: Task) -> None:
        frozen = [task for task in self.tasks if task.is_alive and task.freezer]
        if not frozen:
            return
        task = self.random.choice(frozen)
        if len(task.waiting) >= 50:
            return
        cell, value = self.random.randrange(CELLS), self.random.getrandbits(64)
        step = task.process.post.store(task.memory.address + 8 * cell, value.to_bytes(8, "little"))
        assert not step.ready
        task.waiting.append((step, cell, value))

    def make(self, task: Task) -> None:
        if self.occupied() >= LIVING:
            return
        way, flags = self.random.choice(WAYS)
        is_thread = bool(flags & CLONE_THREAD)
        post = task.process.post
        if way == "fork":
            birth = post.fork()
        elif way == "vfork":
            birth = post.vfork()
        elif way == "clone":
            birth = post.clone(flags | (0 if is_thread else SIGCHLD))
        else:
            birth = post.clone3(flags)
        process = birth.begin()
        memory = task.memory
        if not flags & CLONE_VM:
            memory = Memory(memory.address, memory.words.copy())
        group = task.group
        if not is_thread:
            group = Group(group.parent if flags & CLONE_PARENT else group)
        child = Task(process, group, memory)
        child.making = birth.step
        self.tasks.append(child)
        assert process.own_pid == group.pid
        if flags & CLONE_VFORK:
            assert not birth.step.ready
            task.freezer = child
        else:
            assert birth.step.arrives() == process.tid

    def execute(self, task: Task) -> None:
        pid = task.group.pid
        task.process.execve(AGENT)
        assert task.process.pid == task.process.own_pid == task.process.tid == pid
        task.memory = Memory(task.process.allocate(8 * CELLS), [0] * CELLS)
        others = [other for other in task.group.tasks if other is not task]
        task.group.tasks = [task]
        self.end(others)
        self.release(task)

    def fail_to_execute(self, task: Task) -> None:
        with pytest.raises(CallFailed):
            task.process.execve("/no/such/program")

    def leave(self, task: Task) -> None:
        task.process.post.sys.exit_group(3)
        self.end_group(task.group)

    def leave_as_thread(self, task: Task) -> None:
        task.process.post.sys.exit(4)
        if all(other is task or not other.is_alive for other in task.group.tasks):
            self.end_group(task.group)
        elif task.process.tid != task.group.pid:
            self.end([task])
            task.group.tasks.remove(task)
        else:  # a leader: the process stays
            task.is_alive = False
            self.release(task)

    def kill(self, task: Task) -> None:
        victim = self.random.choice([victim for victim in self.tasks if victim.is_alive]).group
        steps = [
            other.process.post.sys.getpid()
            for other in victim.tasks
            if other.is_alive and not other.freezer and self.random.random() < 0.5
        ]
        kill = task.process.post.sys.kill(victim.pid, SIGKILL)
        self.end_group(victim)
        if task.group is not victim:
            assert kill.arrives() == 0
        for step in steps:
            with contextlib.suppress(Ended):
                assert step.arrives() == victim.pid

    def reap(self, task: Task) -> None:
        children = task.group.children
        result = task.process.post.sys.raw("wait4", -1, 0, WNOHANG | WALL, 0)
        if not children:
            with pytest.raises(CallFailed) as caught:
                result.arrives()
            assert caught.value.errno == ECHILD
            return
        dead = {child.pid: child for child in children if child.is_dead}
        pid = result.arrives()
        assert pid in dead if dead else pid == 0
        if pid:
            children.remove(dead[pid])

    # --- what follows ---

    def end_group(self, group: Group) -> None:
        """All threads of a process are ended by now, or soon; its children go to the hub."""
        self.end(group.tasks)
        group.is_dead = True
        for child in group.children:
            child.parent = None
        group.children = set()

    def end(self, tasks: list[Task]) -> None:
        living = [task for task in tasks if task.is_alive]
        for task in tasks:
            task.is_alive = False
            self.target.wait_for_end(task.process)
            assert all(step.state != Step.WAITING for step, _, _ in task.waiting)
            self.tasks.remove(task)
        for task in living:
            self.release(task)

    def release(self, child: Task) -> None:
        """A child has ended or has another image: who is frozen for it goes on."""
        for task in self.tasks:
            if task.freezer is not child:
                continue
            task.freezer = None
            assert child.making
            assert child.making.arrives() == child.first_tid
            for step, cell, value in task.waiting:
                step.arrives()
                task.memory.words[cell] = value
            task.waiting = []

    def check_all(self) -> None:
        """Everybody that should answer does, with its own memory."""
        for task in self.free():
            self.say_pid(task)
            for cell in range(CELLS):
                assert task.process.load(task.memory.address + 8 * cell) == task.memory.words[cell]
        for task in self.tasks:
            if task.is_alive and task.freezer:
                assert not any(step.ready for step, _, _ in task.waiting)


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep processors busy with something else."""
    others = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)
    ]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@contextlib.contextmanager
def one_processor(is_wanted: bool) -> Iterator[None]:
    """Run on one processor, with all that is started meanwhile."""
    before = os.sched_getaffinity(0)
    if is_wanted:
        os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def assert_nothing_left(target: Target) -> None:
    """The hub has no child but the first process of the next test."""
    with target.test():
        first = target.new_process()
        hub = psutil.Process(target.greeting.hub_pid)
        assert [child.pid for child in hub.children(recursive=True)] == [first.pid]


def run(target: Target, seed: int) -> int:
    """One random sequence; gives its steps. What was done is printed when it fails."""
    steps = 0
    try:
        with target.test():
            sequence = Sequence(target, random.Random(seed))
            while steps < LONGEST and sequence.step():
                steps += 1
            sequence.check_all()
        assert_nothing_left(target)
    except BaseException:
        print(f"seed {seed}, step {steps}\n{target.transcript}")
        raise
    return steps


@pytest.mark.parametrize(
    ("seed", "steps", "is_pinned", "others"),
    [
        pytest.param(1_000_000, 32_000, True, 0, id="one-processor-quiet"),
        pytest.param(2_000_000, 10_000, False, 0, id="all-processors-quiet"),
        # A step takes up to 4 ms there.
        pytest.param(3_000_000, 3_000, True, 2, id="one-processor-busy"),
        pytest.param(4_000_000, 5_000, False, 2, id="all-processors-busy"),
    ],
)
def test_random_sequences(seed: int, steps: int, is_pinned: bool, others: int) -> None:
    with busy(others), one_processor(is_pinned), Target.open("local", PATIENT) as target:
        while steps > 0:
            steps -= run(target, seed)
            seed += 1


def test_a_maker_that_is_killed_while_it_makes() -> None:
    """Whether the child came into being nobody can know: its first word may come, and late."""
    with Target.open("local", PATIENT) as target:
        for _ in range(40):
            with target.test():
                killer = target.new_process("killer")
                births = []
                for _ in range(6):
                    maker = killer.fork("maker")
                    births += [maker.post.fork(), maker.post.vfork()]
                    assert killer.sys.kill(maker.pid, SIGKILL) == 0
                    target.wait_for_end(maker)
                for birth in births:
                    assert birth.step.state != Step.WAITING
                    if birth.child.pid:
                        assert birth.child.sys.getpid() == birth.child.pid
            assert_nothing_left(target)


def test_a_process_that_is_killed_in_exec() -> None:
    """Its new image may have said its first word, or not."""
    with Target.open("local", PATIENT) as target:
        for _ in range(40):
            with target.test():
                killer = target.new_process("killer")
                for _ in range(10):
                    child = killer.fork()
                    step = child.post.execve(AGENT)
                    assert killer.sys.kill(child.pid, SIGKILL) == 0
                    assert child.wait_for_exit().signal == SIGKILL
                    target.wait_for_end(child)
                    assert step.state != Step.WAITING
