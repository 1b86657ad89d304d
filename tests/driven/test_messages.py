"""Descriptors and credentials over a socket, namespaces and files of /proc, on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from pytest_procsemantics.driven import Process, Target
from pytest_procsemantics.driven.errors import Deviation
from pytest_procsemantics.driven.messages import (
    Credentials,
    accept_credentials,
    receive_credentials,
    receive_descriptor,
    send_credentials,
    send_descriptor,
)
from pytest_procsemantics.native import build

pytestmark = pytest.mark.skipif(
    not build.supported(), reason=f"no agent for {sys.platform} {build.host()}"
)


@pytest.fixture(scope="module")
def running_target() -> Iterator[Target]:
    """One target for all: each test begins and ends with nothing on it."""
    with Target.open() as target:
        yield target


@pytest.fixture
def process(running_target: Target) -> Iterator[Process]:
    """A process that nothing was done to."""
    with running_target.test() as target:
        yield target.new_process()


def test_a_descriptor_arrives_as_the_same_open_file(process: Process) -> None:
    one, other = process.sys.socketpair()
    reader, writer = process.sys.pipe()
    child = process.fork()
    send_descriptor(process, other, writer)
    child.sys.close(writer)
    child.sys.write(receive_descriptor(child, one), b"x")
    assert process.sys.read(reader, 8) == b"x"


def test_credentials_arrive_as_they_were_sent(process: Process) -> None:
    one, other = process.sys.socketpair()
    accept_credentials(process, one)
    child = process.fork()
    sent = Credentials(child.sys.getpid(), child.sys.getuid(), child.sys.getgid())
    send_credentials(child, other, sent)
    assert receive_credentials(process, one) == sent


def test_a_message_without_control_data_is_a_deviation(process: Process) -> None:
    one, other = process.sys.socketpair()
    process.sys.write(other, b"m")
    with pytest.raises(Deviation, match="expected control data of type 1 with 4 bytes"):
        receive_descriptor(process, one)
