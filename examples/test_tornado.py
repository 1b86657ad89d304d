"""Tornado: an IOLoop can't be shared with a child, for both sides have one set of descriptors in the kernel.

https://www.tornadoweb.org/en/stable/ioloop.html
"""

import socket

import pytest
from tornado.ioloop import IOLoop


@pytest.fixture
def loop():
    loop = IOLoop(make_current=False)
    yield loop
    loop.close()


def watched(loop):
    """The descriptors that the loop waits for, by the kernel's word."""
    epoll = loop.asyncio_loop._selector.fileno()
    with open(f"/proc/self/fdinfo/{epoll}") as lines:
        return {int(line.split()[1]) for line in lines if line.startswith("tfd:")}


def test_what_a_child_takes_out_of_an_inherited_loop_is_out_for_the_parent_too(loop, spawn):
    with socket.create_server(("127.0.0.1", 0)) as server:
        loop.add_handler(server, print, IOLoop.READ)
        assert server.fileno() in watched(loop)
        spawn(loop.remove_handler, server).result()
        assert server.fileno() not in watched(loop)


async def done():
    return "done"


def run_own_loop():
    loop = IOLoop(make_current=False)
    try:
        return loop.run_sync(done)
    finally:
        loop.close()


def test_a_child_with_a_loop_of_its_own_disturbs_nobody(loop, spawn):
    before = watched(loop)
    assert spawn(run_own_loop).result() == "done"
    assert watched(loop) == before
