"""PyZMQ: a context does not work in a child of its process, so `Context.instance()` gives the child a new one.

https://pyzmq.readthedocs.io/en/latest/api/zmq.html#zmq.Context.instance
"""

import pytest
import zmq

# A child by vfork has its parent's memory, where a second context with its threads would outlive it.
pytestmark = pytest.mark.procsem_primitives("fork", "clone", "clone3")


@pytest.fixture
def context():
    """This process's context, with its threads."""
    context = zmq.Context.instance()
    yield context
    context.term()


def is_the_same(context):
    return zmq.Context.instance() is context


def say(address):
    context = zmq.Context.instance()
    with context.socket(zmq.PUSH) as socket:
        socket.connect(address)
        socket.send(b"hello")
    context.term()  # waits until it is delivered


def test_a_child_has_a_context_of_its_own(context, spawn):
    assert is_the_same(context)
    assert not spawn(is_the_same, context).result()


def test_a_child_can_talk_to_its_parent(context, spawn, tmp_path):
    with context.socket(zmq.PULL) as socket:
        socket.bind(f"ipc://{tmp_path}/socket")
        child = spawn(say, socket.last_endpoint)
        assert socket.recv() == b"hello"
        child.result()
