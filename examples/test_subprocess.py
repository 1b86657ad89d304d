"""subprocess: `close_fds` closes what a fork would keep, and an exec what is not inheritable.

https://docs.python.org/3/library/subprocess.html#subprocess.Popen
https://peps.python.org/pep-0446/
"""

import os
import subprocess
import sys

import pytest

IS_OPEN = "import os, sys; os.fstat(int(sys.argv[1]))"


@pytest.fixture(params=[False, True], ids=["not-inheritable", "inheritable"])
def descriptor(request):
    reader, writer = os.pipe()
    os.set_inheritable(reader, request.param)
    yield reader
    os.close(reader)
    os.close(writer)


def is_open_in_a_program(descriptor, **options):
    program = [sys.executable, "-S", "-c", IS_OPEN, str(descriptor)]
    return not subprocess.run(program, stderr=subprocess.DEVNULL, **options).returncode


def test_a_fork_keeps_every_descriptor(descriptor, spawn):
    spawn(os.fstat, descriptor).result()


def test_a_program_gets_none_by_default(descriptor, spawn_fork):
    assert not spawn_fork(is_open_in_a_program, descriptor).result()


def test_a_program_gets_what_is_passed(descriptor, spawn_fork):
    assert spawn_fork(is_open_in_a_program, descriptor, pass_fds=[descriptor]).result()


def test_without_close_fds_it_gets_what_is_inheritable(descriptor, spawn_fork):
    expected = os.get_inheritable(descriptor)
    assert spawn_fork(is_open_in_a_program, descriptor, close_fds=False).result() == expected
