"""The line to a target: its command behind a keeper, and the frames that go to and fro.

Never writes blockingly: with both sides full, driver and hub would wait for each other for ever. Whatever goes wrong
here, an interrupt included, leaves the line lost, for nobody knows what half a frame meant.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

from pytest_procsemantics.driven import wire
from pytest_procsemantics.driven.errors import StartFailed, TargetLost

STDERR_KEPT = 16384  # bytes of the target's standard error that are kept: the last ones
GRACE = 10.0  # seconds that the keeper has to end everything before it is ended itself
MOST_UNREAD = 32 << 20  # bytes from a target that takes none of ours: its pipes hold less
END_NOW = b"k"  # on the keeper's control pipe: no grace for the command

# Each step goes through here: names of this module are found at once, those of another in two look-ups.
UNPACK = wire.ANSWER.unpack_from
ANSWER_SIZE = wire.ANSWER.size  # bytes of a frame without data
FRAME_SIZE = wire.FRAME.size
EMPTY_LENGTH = ANSWER_SIZE - FRAME_SIZE
MAX_PAYLOAD, SLOTS = wire.MAX_PAYLOAD, wire.SLOTS

# Those that were started and not ended: each keeps a child and pipes from one test to the next.
RUNNING: weakref.WeakSet[Link] = weakref.WeakSet()

Frame = tuple[int, int, int, int, bytes]  # channel, kind, serial, result, data


class Link:
    """A started target.

    Args:
        keeper: the agent for this machine.
        agent: the agent for the target, to be copied into `folder`.
        folder: a path that does not exist; the keeper makes and removes it.
        command: program (absolute path) and arguments.
        timeout: seconds that the greeting may take, and that the target may leave our frames unread.

    Raises:
        StartFailed: no greeting of this protocol came.
    """

    def __init__(
        self, keeper: Path, agent: Path, folder: Path, command: Sequence[str], timeout: float
    ) -> None:
        self.command = list(command)
        self.lost = False
        self._timeout = timeout
        self._folder = folder
        self._buffer = b""
        self._errors = b""
        self._start(keeper, agent, folder)
        try:
            self.greeting = self._greet(timeout)
        except TargetLost as error:
            raise StartFailed(error.args[0], error.evidence) from None
        except BaseException:
            self.kill()
            raise

    def _start(self, keeper: Path, agent: Path, folder: Path) -> None:
        control, self._control = os.pipe()
        # The kernel tells the keeper of this process's death; without pidfds the keeper looks for its parent.
        with contextlib.ExitStack() as ends:
            ends.callback(os.close, control)
            own = -1
            with contextlib.suppress(OSError, AttributeError):
                own = os.pidfd_open(os.getpid())
                ends.callback(os.close, own)
            line = [
                str(keeper),
                "--procsem-keeper",
                str(control),
                str(own),
                str(folder),
                str(agent),
                "--",
            ]
            try:
                self._process = subprocess.Popen(
                    line + self.command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    pass_fds=[control] + [own] * (own >= 0),
                    start_new_session=True,
                )
            except BaseException as error:
                os.close(self._control)
                if not isinstance(error, OSError):
                    raise
                raise StartFailed(f"the keeper {keeper} does not start: {error}") from error
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._input = self._process.stdin.fileno()
        self._output = self._process.stdout.fileno()
        self._stderr = self._process.stderr.fileno()
        self.descriptors = (self._control, self._input, self._output, self._stderr)
        RUNNING.add(self)
        os.set_blocking(self._input, False)
        os.set_blocking(self._output, False)
        os.set_blocking(self._stderr, False)
        self._poll = select.poll()
        self._poll.register(self._output, select.POLLIN)
        self._poll.register(self._stderr, select.POLLIN)

    @property
    def keeper_pid(self) -> int:
        """The keeper, a child of this process."""
        return self._process.pid

    # --- the start ---

    def _greet(self, timeout: float) -> wire.Greeting:
        """Find the preamble behind whatever a wrapper printed first, and the greeting behind that."""
        end = time.monotonic() + timeout
        banner = b""
        while wire.PREAMBLE not in banner:
            if len(banner) > wire.MAX_BANNER:
                raise self._failure(
                    StartFailed, "no greeting of the agent in the first 64 KiB", banner
                )
            chunk = self._read(end - time.monotonic())
            if chunk is None:
                raise self._failure(
                    StartFailed, f"no greeting of the agent within {timeout:g} s", banner
                )
            banner += chunk
            self._buffer = banner
        self._buffer = banner.partition(wire.PREAMBLE)[2]
        frames = self.receive(0)  # it may have come together with the preamble
        while not frames:
            if time.monotonic() >= end:
                raise self._failure(
                    StartFailed,
                    f"no whole greeting of the agent within {timeout:g} s",
                    self._buffer,
                )
            frames = self.receive(end - time.monotonic())
        channel, kind, call, result, payload = frames[0]
        if (channel, kind) != (0, wire.Kind.GREETING) or len(payload) != wire.GREETING.size:
            raise self._failure(StartFailed, "the agent's first frame is no greeting", payload)
        greeting = wire.Greeting.parse(payload)
        if greeting.protocol != wire.PROTOCOL:
            text = f"the agent speaks protocol {greeting.protocol}, this driver {wire.PROTOCOL}: build the agent anew"
            raise self._failure(StartFailed, text)
        if result:
            text = f"the agent can't work there: call number {call} on {greeting.machine} gave errno {-result}"
            raise self._failure(StartFailed, text)
        return greeting

    # --- frames ---

    def send(self, data: bytes) -> None:
        """Write frames, taking in what comes meanwhile.

        Raises:
            TargetLost: the other side is gone, or takes nothing for the time that a wait may take.
        """
        if self.lost:  # the number of a closed pipe may be another file's by now
            raise TargetLost("the target was lost before", self.evidence())
        try:
            while True:
                try:
                    written = os.write(self._input, data)
                    if written == len(data):
                        return
                    data = data[written:]
                except BlockingIOError:
                    self._take_in_until_writable()
        except BrokenPipeError:
            raise self._failure(TargetLost, "the agent is gone") from None
        except BaseException:
            self.lost = True
            raise

    def _take_in_until_writable(self) -> None:
        taken = [self._buffer]
        size = len(self._buffer)
        end = time.monotonic() + self._timeout
        self._poll.register(self._input, select.POLLOUT)
        try:
            while self._input not in (ready := self._ready(end)):
                if not ready:
                    raise self._failure(
                        TargetLost, f"the target took no frame within {self._timeout:g} s"
                    )
                if self._stderr in ready:
                    self._keep_errors(os.read(self._stderr, 1 << 16))
                if self._output in ready:
                    taken.append(os.read(self._output, 1 << 16))
                    size += len(taken[-1])
                    if not taken[-1]:
                        raise self._failure(TargetLost, "the agent's stream ended")
                    if size > MOST_UNREAD:
                        text = f"the target took no frame and sent more than {MOST_UNREAD >> 20} MiB meanwhile"
                        raise self._failure(TargetLost, text, taken[-1])
        finally:
            self._poll.unregister(self._input)
        self._buffer = b"".join(taken)

    def _ready(self, end: float) -> set[int]:
        """The pipes with something to do, none when time is over."""
        left = end - time.monotonic()
        return {fd for fd, _ in self._poll.poll(left * 1000)} if left > 0 else set()

    def receive(self, timeout: float) -> list[Frame]:
        """Take the frames that have come; none when `timeout` seconds are over without a whole one.

        Raises:
            TargetLost: the stream ended, or what came is no frame.
        """
        if self.lost:
            raise TargetLost("the target was lost before", self.evidence())
        held = self._buffer
        if len(held) >= ANSWER_SIZE:
            # A whole frame that came with the preamble, or while we wrote, must not wait for more; nor must noise.
            length = int.from_bytes(held[4:8], "little")
            if length > MAX_PAYLOAD or len(held) >= FRAME_SIZE + length:
                timeout = 0
        buffer = self._read(timeout)
        if buffer and not held and len(buffer) >= ANSWER_SIZE:
            # One frame and nothing else: nearly every step ends here.
            channel, length, kind, serial, result = UNPACK(buffer)
            if length == len(buffer) - FRAME_SIZE and channel <= SLOTS:
                return [(channel, kind, serial, result, buffer[ANSWER_SIZE:])]
        return self._split(held + (buffer or b""))

    def _split(self, buffer: bytes) -> list[Frame]:
        """The whole frames of a buffer; the rest is kept."""
        size = len(buffer)
        frames: list[Frame] = []
        at = 0
        while size - at >= ANSWER_SIZE:
            channel, length, kind, serial, result = UNPACK(buffer, at)
            if not EMPTY_LENGTH <= length <= MAX_PAYLOAD or channel > SLOTS:
                text = f"noise after the greeting: channel {channel}, {length} bytes claimed (at most 65536)"
                raise self._failure(TargetLost, text, buffer[at : at + 64])
            end = at + 8 + length
            if end > size:
                break
            frames.append((channel, kind, serial, result, buffer[at + ANSWER_SIZE : end]))
            at = end
        self._buffer = buffer[at:]
        return frames

    def _read(self, timeout: float) -> bytes | None:
        """What the agent wrote; None when time is over. Standard error is taken in on the way."""
        try:
            events = self._poll.poll(timeout * 1000 if timeout > 0 else 0)
            if events and events[0][0] != self._output:
                events = self._take_in_errors(time.monotonic() + timeout)
            if not events:
                return None
            chunk = os.read(self._output, 1 << 16)
        except BaseException:
            self.lost = True
            raise
        if not chunk:
            raise self._failure(TargetLost, "the agent's stream ended")
        return chunk

    def _take_in_errors(self, end: float) -> list[tuple[int, int]]:
        """Read standard error until the agent has something to say too, or time is over."""
        while (events := self._poll.poll(max(end - time.monotonic(), 0) * 1000)) and events[0][
            0
        ] == self._stderr:
            if time.monotonic() > end:  # it never stops
                return []
            self._keep_errors(os.read(self._stderr, 1 << 16))
        return events

    def _keep_errors(self, chunk: bytes) -> None:
        if not chunk:
            self._poll.unregister(self._stderr)
        self._errors = (self._errors + chunk)[-STDERR_KEPT:]

    # --- the end ---

    def _failure(self, kind: type[TargetLost], message: str, strange: bytes = b"") -> TargetLost:
        """The exception for a lost target, with all that can be shown of it."""
        self.kill()
        return kind(message, self.evidence(strange))

    def evidence(self, strange: bytes = b"") -> str:
        """What there is to see of a target: command, end, standard error, bytes that make no sense."""
        lines = [f"command: {' '.join(self.command)}"]
        status = self._process.poll()
        if status is not None:
            lines.append(f"the keeper ended with status {status}")
        if unread := strange or self._buffer:
            lines.append(f"bytes: {unread[:64]!r}")
        if self._errors:
            lines.append("standard error: " + self._errors.decode("utf-8", "backslashreplace"))
        return "\n".join(lines)

    def close(self) -> None:
        """End the target by the end of its input, and wait until nothing is left of it."""
        self._finish(b"")

    def kill(self) -> None:
        """End the target at once, and wait until nothing is left of it."""
        self._finish(END_NOW)

    def _finish(self, word: bytes) -> None:
        self.lost = True
        process = self._process
        if process.stdin is None or process.stdin.closed:
            return
        RUNNING.discard(self)
        process.stdin.close()
        with contextlib.suppress(BrokenPipeError):
            os.write(self._control, word)
        os.close(self._control)
        try:
            self._drain_until_closed(time.monotonic() + GRACE)
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            for pipe in (process.stdout, process.stderr):
                if pipe:
                    pipe.close()
            if (
                process.returncode is None or process.returncode < 0
            ):  # the keeper can't clean up any more
                shutil.rmtree(self._folder, ignore_errors=True)

    def _drain_until_closed(self, end: float) -> None:
        """Read both pipes to their ends: a target that still writes must not wait for us while it should end."""
        poll = select.poll()
        ways = {self._output, self._stderr}
        for way in ways:
            poll.register(way, select.POLLIN)
        while ways and (left := end - time.monotonic()) > 0:
            for way, _ in poll.poll(left * 1000):
                with contextlib.suppress(BlockingIOError):
                    chunk = os.read(way, 1 << 16)
                    if way == self._stderr:
                        self._errors = (self._errors + chunk)[-STDERR_KEPT:]
                    if not chunk:
                        poll.unregister(way)
                        ways.remove(way)
