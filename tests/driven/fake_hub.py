"""Hubs that misbehave, each in one way: what stands in a target's place in test_link_hostile.py.

    python fake_hub.py FOLDER_OF_WIRE NAME MARKER AGENT --procsem-hub

Where the file MARKER is there already, the true agent runs instead: so the next test finds a good
target. Nothing but the protocol's numbers comes from the package, for a fake must start fast.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator

sys.path.append(sys.argv[1])  # the folder alone: importing the package takes longer than a test

import wire  # type: ignore[import-not-found]

SERIAL = 1  # of a request's words behind channel and length
NUMBER = struct.Struct("<q")
FOREVER = 1000  # seconds
NOISE = b"Lorem ipsum dolor sit amet, consectetur adipiscing elit. "


def write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def complain(text: str) -> None:
    os.write(2, text.encode() + b"\n")


def stay() -> None:
    """Live on, whatever happens, and say nothing."""
    time.sleep(FOREVER)


def flood(data: bytes) -> None:
    """Write without end."""
    data *= max(1, (1 << 16) // len(data))
    while True:
        write(data)


def frame(channel: int, kind: int, serial: int = 0, result: int = 0, data: bytes = b"") -> bytes:
    head: bytes = wire.ANSWER.pack(channel, 16 + len(data), kind, serial, result)
    return head + data


def greeting(protocol: int = wire.PROTOCOL, serial: int = 0, result: int = 0) -> bytes:
    payload = wire.GREETING.pack(
        *(protocol, wire.SLOTS, wire.PACKET_LIMIT, 4096, os.getpid(), 0),
        *(0x400000, 49152, 0x401000, 0, 0, 0),
        b"x86_64",
        b"/nowhere/agent",
    )
    return frame(0, wire.Kind.GREETING, serial, result, payload)


def greet() -> None:
    write(wire.PREAMBLE + greeting())


def hello(slot: int, kind: int = wire.Kind.HELLO) -> bytes:
    return frame(slot, kind, 0, 0x7000, wire.HELLO.pack(1000 + slot, 1000 + slot, 1000 + slot))


def read(size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = os.read(0, size - len(data))
        if not chunk:
            sys.exit(0)
        data += chunk
    return data


def requests() -> Iterator[tuple[int, int, int]]:
    """What the driver sends to processes: slot, kind and serial; its words to the hub are obeyed."""
    greet()
    while True:
        slot, length = wire.FRAME.unpack(read(wire.FRAME.size))
        payload = read(length)
        kind, serial = wire.FRAME.unpack_from(payload)
        if slot:
            yield slot, kind, serial
        elif kind == wire.HubRequest.PING:
            write(frame(0, wire.Kind.PONG))
        elif kind == wire.HubRequest.NEW_ROOT:
            write(hello(NUMBER.unpack_from(payload, 16)[0]))
        elif kind == wire.HubRequest.END_OF_TEST:
            write(frame(0, wire.Kind.CLEAN))


def at_first_request(act: Callable[[int, int], None]) -> Callable[[], None]:
    """A hub that is good until a process shall do something; then `act(slot, serial)`."""

    def run() -> None:
        for slot, _, serial in requests():
            act(slot, serial)

    return run


# --- at the start ---


def exits() -> None:
    complain("no such sandbox today")
    sys.exit(7)


def banner_only() -> None:
    write(b"Welcome to the sandbox\n")
    stay()


def noise() -> None:
    flood(NOISE)


def other_protocol() -> None:
    write(wire.PREAMBLE + greeting(protocol=999))
    stay()


def stops_in_greeting() -> None:
    write(wire.PREAMBLE + greeting()[:60])
    stay()


def dies_in_greeting() -> None:
    complain("panic: out of memory")
    write(wire.PREAMBLE + greeting()[:60])


def greets_with_another_frame() -> None:
    write(wire.PREAMBLE + frame(0, wire.Kind.PONG))
    stay()


def lacks_a_call() -> None:
    write(wire.PREAMBLE + greeting(serial=53, result=-38))
    stay()


def lacks_a_call_of_a_strange_errno() -> None:
    write(wire.PREAMBLE + greeting(serial=53, result=-(1 << 62)))
    stay()


def greets_with_4_gib() -> None:
    write(wire.PREAMBLE + struct.pack("<II", 0, 0xFFFFFFFF) + bytes(64))
    stay()


def floods_errors_and_never_greets() -> None:
    while True:
        os.write(2, NOISE * 1000)


def deaf() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    stay()


# --- in the middle of a test ---


def stops_in_a_frame(slot: int, serial: int) -> None:
    write(frame(slot, wire.Kind.ANSWER, serial, 0, bytes(100))[:70])
    stay()


def claims_4_gib(slot: int, serial: int) -> None:
    write(struct.pack("<IIIIq", slot, 0xFFFFFFFF, wire.Kind.ANSWER, serial, 0))
    flood(bytes(1 << 16))


def claims_too_little(slot: int, serial: int) -> None:
    write(struct.pack("<IIIIq", slot, 4, wire.Kind.ANSWER, serial, 0))
    stay()


def names_a_channel_beyond_all(slot: int, serial: int) -> None:
    write(frame(4096, wire.Kind.ANSWER, serial))
    stay()


def talks(slot: int, serial: int) -> None:
    write(b"Segmentation fault (core dumped)\n")
    stay()


def unknown_kind(slot: int, serial: int) -> None:
    write(frame(0, 77))
    stay()


def unknown_kind_of_a_process(slot: int, serial: int) -> None:
    write(frame(slot, 77, serial))
    stay()


def unknown_slot(slot: int, serial: int) -> None:
    write(frame(slot + 1, wire.Kind.ANSWER, serial))
    stay()


def unknown_serial(slot: int, serial: int) -> None:
    write(frame(slot, wire.Kind.ANSWER, serial + 1))
    stay()


def answers_twice(slot: int, serial: int) -> None:
    write(frame(slot, wire.Kind.ANSWER, serial, 1) * 2)
    stay()


def hello_twice(slot: int, serial: int) -> None:
    write(hello(slot))
    stay()


def hello_of_nobody(slot: int, serial: int) -> None:
    write(hello(slot + 1))
    stay()


def hello_of_another_size(slot: int, serial: int) -> None:
    write(frame(slot, wire.Kind.HELLO, 0, 0, b"short"))
    stay()


def image_that_nobody_asked_for(slot: int, serial: int) -> None:
    write(hello(slot, wire.Kind.IMAGE))
    stay()


def hangs(slot: int, serial: int) -> None:
    complain("the sandbox has met a problem")
    stay()


def dies(slot: int, serial: int) -> None:
    complain("Killed by the machine")
    os.kill(os.getpid(), signal.SIGKILL)


def closes_its_output(slot: int, serial: int) -> None:
    os.close(1)
    stay()


def floods_frames(slot: int, serial: int) -> None:
    flood(frame(slot, wire.Kind.ANSWER, serial + 1))


def floods_strays(slot: int, serial: int) -> None:
    flood(frame(0, wire.Kind.STRAY, 0, 99))


def floods_errors(slot: int, serial: int) -> None:
    while True:
        os.write(2, NOISE * 1000)


def takes_nothing_and_floods(slot: int, serial: int) -> None:
    flood(frame(slot, wire.Kind.ANSWER, serial, 0, bytes(32000)))


def speaks_well_beside_many_errors(slot: int, serial: int) -> None:
    os.write(2, NOISE * 4000)
    write(frame(slot, wire.Kind.ANSWER, serial, 42))


def words_to_the_hub(after_clean: bytes = b"") -> Iterator[tuple[int, int]]:
    """What the driver asks of the hub itself: kind and number; the end of a test is answered."""
    greet()
    while True:
        _, length = wire.FRAME.unpack(read(wire.FRAME.size))
        payload = read(length)
        kind = wire.FRAME.unpack_from(payload)[0]
        if kind == wire.HubRequest.END_OF_TEST:
            write(frame(0, wire.Kind.CLEAN) + after_clean)
        yield kind, NUMBER.unpack_from(payload, 16)[0]


def refuses_processes() -> None:
    for kind, slot in words_to_the_hub():
        if kind == wire.HubRequest.NEW_ROOT:
            write(frame(0, wire.Kind.REFUSED, slot, -11))


def loses_processes() -> None:
    for kind, slot in words_to_the_hub():
        if kind == wire.HubRequest.NEW_ROOT:
            write(hello(slot) + frame(0, wire.Kind.DEATH, slot, 9))


def greets_before_anybody_asks() -> None:
    for _ in words_to_the_hub(after_clean=hello(1) * 10):
        pass


def hangs_at_the_end() -> None:
    greet()
    read(80)
    write(hello(1))
    stay()


def main() -> None:
    name, marker, agent = sys.argv[2:5]
    if os.path.exists(marker):
        os.execv(agent, [agent, *sys.argv[5:]])
    if marker:
        os.close(os.open(marker, os.O_CREAT | os.O_WRONLY))
    act = globals()[name]
    if act.__code__.co_argcount:
        act = at_first_request(act)
    act()


main()
