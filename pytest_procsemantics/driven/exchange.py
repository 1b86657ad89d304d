"""What goes to and fro between the driver and its processes: steps, answers, the hub's words, and every wait for them.

A step is one write and one read of the driver's, so what lies between them is kept short here.
"""

from __future__ import annotations

import abc
import functools
import time
from collections.abc import Callable
from typing import Any

from pytest_procsemantics.driven import wire
from pytest_procsemantics.driven.creation import Birth
from pytest_procsemantics.driven.errors import Overdue, TargetLost
from pytest_procsemantics.driven.link import Frame, Link
from pytest_procsemantics.driven.process import MOST_OUTSTANDING, Process
from pytest_procsemantics.driven.step import LOWEST_ERRNO, Step
from pytest_procsemantics.driven.transcript import Transcript
from pytest_procsemantics.waits import LOOK_UP

NOT_STARTED = "the target is not started: a process belongs into `with target.test():`"
MOST_TO_A_SLOT = (
    1 << 16
)  # bytes on the way to one process: a socket's buffer takes 200 KiB on every known kernel
MOST_STRAYS = (
    1000  # in one test: a program that writes into the channel without end must not fill our memory
)
# Plain numbers, for each frame is compared with them.
KIND_ANSWER, KIND_HELLO, KIND_IMAGE = (
    int(wire.Kind.ANSWER),
    int(wire.Kind.HELLO),
    int(wire.Kind.IMAGE),
)
KINDS = frozenset(map(int, wire.Kind))
# A hello, a refusal and a death: all that can be said of a process before anybody wanted it.
EARLY_KINDS = frozenset(map(int, (wire.Kind.HELLO, wire.Kind.REFUSED, wire.Kind.DEATH)))
MOST_EARLY = len(EARLY_KINDS)
CLEAN = wire.Kind.CLEAN
FIRST_SLOT = 1


@functools.cache
def hub_request(request: wire.HubRequest, number: int = 0) -> bytes:
    """The frame of a request to the hub itself; there are few different ones."""
    return wire.REQUEST.pack(0, wire.REQUEST_SIZE, request, 0, 0, 0, number, 0, 0, 0, 0, 0, 0)


END_AND_BEGIN = hub_request(wire.HubRequest.END_OF_TEST) + hub_request(
    wire.HubRequest.NEW_ROOT, FIRST_SLOT
)


class Exchange(abc.ABC):
    """The line to a started target, and the words of the processes of one test after the other.

    Args:
        timeout: seconds that one wait may take.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.serial = 0
        self.send: Callable[[bytes], None] = self._refuse  # the link's own once there is one
        self.transcript = Transcript()
        self.processes: dict[int, Process] = {}
        self._link: Link | None = None
        self._used: list[Process] = []  # whoever has had each slot last, from 1
        self._strays = 0  # packets of this test that no driven process wrote
        self._words: dict[int, tuple[int, bytes]] = {}  # the hub's last word of each kind
        # The end of a test asks for the next one's first process too, which saves each an exchange.
        self._is_first_asked_for = False
        self._early: list[Frame] = []  # what was said of it so far

    @abc.abstractmethod
    def situation(self) -> str:
        """What there is to know of each process, for the message of a wait that ran out."""

    def _connect(self, link: Link) -> None:
        self._link = link
        self._is_first_asked_for = False
        self._early = []
        self.send = link.send

    @staticmethod
    def _refuse(data: bytes) -> None:
        raise TargetLost(NOT_STARTED)

    @property
    def link(self) -> Link:
        """The line to the started target."""
        if self._link is None:
            raise TargetLost(NOT_STARTED)
        return self._link

    # --- processes ---

    def _enrol(self, process: Process) -> None:
        """Let a process that is about to be made have its slot, and hear what was said of it before."""
        self._used[process.slot - 1 : process.slot] = [process]
        self.processes[process.slot] = process
        early, self._early = self._early, []
        for frame in early:
            self._take_word(*frame)

    def _ask_for_root(self, process: Process) -> None:
        """Have the hub make a process, and wait for its first word; the first of a test is on its way already."""
        if process.slot == FIRST_SLOT and self._is_first_asked_for:
            self._is_first_asked_for = False
        else:
            self.send(hub_request(wire.HubRequest.NEW_ROOT, process.slot))
        if not process.pid:
            self._wait(
                lambda: bool(process.pid) or process.ended,
                None,
                lambda: f"a new process ({process.name})",
            )

    def free_slot(self, slot: int) -> None:
        """Have the hub throw away what an ended process was not able to read."""
        self.send(hub_request(wire.HubRequest.FREE_SLOT, slot))

    def _end_all(self) -> None:
        """Have the hub end and remove all that the test made, and begin with the first process of the next one."""
        for process in self._used:
            process.ended = process.over = True
        self.processes = {}
        self._used = []
        self._strays = 0
        self._early = []
        link = self.link
        if link.lost:
            link.kill()
            return
        result, path = self.ask_hub(wire.HubRequest.END_OF_TEST, CLEAN)
        self._is_first_asked_for = True
        if result:
            text = f"what the test made could not be removed: errno {-result}"
            raise TargetLost(text, path.decode("utf-8", "backslashreplace"))

    # --- steps ---

    def new_step(self, process: Process, name: str, args: tuple[Any, ...], decode: Any) -> Step:
        """Note a step that is about to be sent."""
        if process.ended:
            if process.over:
                raise ValueError(f"{process} belongs to a test that has ended: make a new one")
            raise process.gone(Step(process, name, args, 0, None))
        self.serial += 1
        step = Step(process, name, args, self.serial, decode)
        outstanding = process.outstanding
        if len(outstanding) >= MOST_OUTSTANDING:
            self.wait_for(outstanding[0], None)
            if process.ended:
                raise process.gone(step)
        outstanding.append(step)
        self.transcript.events.append(step)
        return step

    def make_room(self, process: Process, size: int) -> None:
        """Wait until so many bytes more may be on the way to a process."""
        __tracebackhide__ = True
        outstanding = process.outstanding
        while outstanding and sum(step.size for step in outstanding) + size > MOST_TO_A_SLOT:
            self.wait_for(outstanding[0], None)

    def take_in(self, timeout: float) -> None:
        """Take what comes within `timeout` seconds, or sooner; who waits longer looks again."""
        if timeout > LOOK_UP:
            timeout = LOOK_UP
        for channel, kind, serial, result, data in (self._link or self.link).receive(timeout):
            if kind == KIND_ANSWER:
                process = self.processes.get(channel)
                outstanding = process.outstanding if process else None
                if not outstanding or outstanding[0].serial != serial:
                    raise self._nonsense(
                        f"an answer that nobody asked for: slot {channel}, step {serial}, {result}"
                    )
                step = outstanding.popleft()
                step.result = result
                step.data = data
                step.state = 1
                self.transcript.events.append(step)
            else:
                self._take_word(channel, kind, serial, result, data)

    def _take_word(self, channel: int, kind: int, serial: int, result: int, data: bytes) -> None:
        if not self._used and kind in EARLY_KINDS:
            self._keep((channel, kind, serial, result, data))
        elif kind in (KIND_HELLO, KIND_IMAGE):
            process = self.processes.get(channel)
            if (
                process is None
                or len(data) != wire.HELLO.size
                or bool(process.pid) == (kind == KIND_HELLO)
            ):
                raise self._nonsense(
                    f"a first word that nobody expects: slot {channel}, kind {kind}"
                )
            self._take_hello(process, kind, result, data)
        elif channel or kind not in KINDS:
            raise self._nonsense(f"a frame of unknown kind {kind} on channel {channel}")
        elif kind == wire.Kind.DEATH:
            self._take_death(serial, result)
        elif kind == wire.Kind.REFUSED:
            self._take_refusal(serial, result)
        elif kind == wire.Kind.STRAY:
            self._strays += 1
            if self._strays > MOST_STRAYS:
                raise self._nonsense(
                    f"more than {MOST_STRAYS} packets that no driven process wrote"
                )
            self.transcript.note(
                f"a packet of {result} bytes that no driven process wrote was thrown away"
            )
        else:
            self._words[kind] = (result, data)

    def _keep(self, frame: Frame) -> None:
        self._early.append(frame)
        if len(self._early) > MOST_EARLY:
            raise self._nonsense(f"{len(self._early)} words before there was a process")

    def _nonsense(self, text: str) -> TargetLost:
        self.link.kill()
        return TargetLost(text, self.link.evidence() + "\n" + self.situation())

    def _take_hello(self, process: Process, kind: int, stack_pointer: int, data: bytes) -> None:
        process.own_pid, process.tid, process.pid = wire.HELLO.unpack(data)
        process.stack_pointer = stack_pointer
        if kind == KIND_HELLO:
            self.transcript.note_birth(process)
            return
        process.images += 1
        if process.program:
            process.settle(None)
        if not process.outstanding or "exec" not in process.outstanding[0].name:
            raise self._nonsense(f"a new image of {process} that nobody asked for")
        # A successful exec has no answer: the new image's first word stands for it.
        step = process.outstanding.popleft()
        step.state = Step.DONE
        self.transcript.events.append(step)

    def _take_death(self, slot: int, status: int) -> None:
        process = self.processes.get(slot)
        if process is None or process.ended:
            return
        process.ended = True
        process.status = status if status >= 0 else None
        for step in process.outstanding:
            step.state = Step.GONE
        process.outstanding.clear()
        self.transcript.note_end(process)

    def _take_refusal(self, slot: int, result: int) -> None:
        process = self.processes.get(slot)
        if process is None:
            return
        if process.pid:
            raise self._nonsense(f"the way down to {process} is full: errno {-result}")
        process.ended = True
        process.status = result

    # --- waiting ---

    def wait_for(self, step: Step, timeout: float | None, begin: float | None = None) -> None:
        """Wait until a step is answered, or can't be any more; `begin`: when the waiting began."""
        __tracebackhide__ = True
        self._wait(
            lambda: bool(step.state),
            timeout,
            lambda: f"{step.process} to answer {step.name}",
            begin,
        )

    def wait_for_birth(self, birth: Birth) -> None:
        """Wait until a new process has said its first word, and its maker has answered where it can."""
        __tracebackhide__ = True
        child, step = birth.child, birth.step
        is_answer_due = not birth.suspends

        def is_over() -> bool:
            failed = step.state == Step.GONE or LOWEST_ERRNO <= step.result < 0
            return failed or (bool(child.pid) and (bool(step.state) or not is_answer_due))

        self._wait(
            is_over,
            None,
            lambda: f"the first word of {child}, made by {step.process} by {step.name}",
        )
        if not child.pid:
            if step.state == Step.DONE:
                child.ended = True  # there is no such process: its slot is free
                del self.processes[child.slot]
            # A maker that ended has perhaps made it all the same: then its first word is still to come.
            step.arrives()
            raise Overdue(
                f"{step.process} says that it made {step.result}, which never said a word"
            )

    def wait_for_first_word(self, process: Process, step: Step) -> None:
        """Wait until a new process has said its first word, or the step of its maker is answered; that may end first."""
        __tracebackhide__ = True
        self._wait(
            lambda: bool(process.pid) or step.state == Step.DONE,
            None,
            lambda: f"the first word of {process}",
        )

    def wait_for_end(self, process: Process, timeout: float | None = None) -> int | None:
        """Wait until the hub has seen a process's end; gives its wait status where the hub reaped it."""
        __tracebackhide__ = True
        self._wait(lambda: process.ended, timeout, lambda: f"the end of {process}")
        return process.status

    def _wait(
        self,
        is_over: Callable[[], bool],
        timeout: float | None,
        what: Callable[[], str],
        begin: float | None = None,
    ) -> None:
        __tracebackhide__ = True
        limit = self.timeout if timeout is None else timeout
        end = (time.monotonic() if begin is None else begin) + limit
        while not is_over():
            left = end - time.monotonic()
            if left > 0:
                self.take_in(left)
                continue
            self.ask_hub(wire.HubRequest.PING, wire.Kind.PONG)
            if is_over():
                return
            raise self._overdue(what(), limit)

    def wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        """Look again and again until something is so; each look is a step of some process, so the hub is alive.

        Raises:
            Overdue: it is not so within the timeout.
        """
        __tracebackhide__ = True
        end = time.monotonic() + self.timeout
        while not is_so():
            if time.monotonic() > end:
                raise self._overdue(what, self.timeout)

    def _overdue(self, what: str, limit: float) -> Overdue:
        advice = f"--procsem-timeout={3 * limit:g} gives a slow machine more time"
        return Overdue(f"waited {limit:g} s for {what}; {advice}\n{self.situation()}")

    # --- the hub ---

    def ask_hub(self, request: wire.HubRequest, answer: wire.Kind) -> tuple[int, bytes]:
        """Ask the hub itself; it never waits for a driven process, so its silence is the target's loss.

        Raises:
            TargetLost: no answer within the timeout.
        """
        take_in, frames = self.take_in, hub_request(request)
        if answer is CLEAN:
            take_in, frames = self._discard, END_AND_BEGIN
        self._words.pop(answer, None)
        self.send(frames)
        end = time.monotonic() + self.timeout
        while answer not in self._words:
            left = end - time.monotonic()
            if left <= 0:
                self.link.kill()
                text = f"the hub did not answer {request.name} within {self.timeout:g} s"
                raise TargetLost(text, self.link.evidence())
            take_in(left)
        return self._words.pop(answer)

    def _discard(self, timeout: float) -> None:
        """Take the hub's words only, until the test is over: whoever else still talks is about to be ended."""
        for channel, kind, serial, result, data in self.link.receive(timeout):
            if CLEAN in self._words:
                self._keep((channel, kind, serial, result, data))
            elif not channel:
                self._words[kind] = (result, data)
