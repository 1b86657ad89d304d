"""gevent: greenlets that wait in the parent's hub run in the child too, once it lets its hub run.

https://www.gevent.org/api/gevent.os.html
"""

import os

import gevent
import pytest


@pytest.fixture
def waiting():
    """A greenlet that has not begun, and the pids of the processes in which it ran."""
    ran = []
    greenlet = gevent.spawn(lambda: ran.append(os.getpid()))
    yield ran
    greenlet.join()
    assert ran == [os.getpid()]
    gevent.get_hub().destroy(destroy_loop=True)


def let_run(ran):
    gevent.reinit()  # what gevent.os.fork does in the child
    gevent.sleep(0)
    return ran == [os.getpid()]


def test_a_waiting_greenlet_runs_on_both_sides(waiting, spawn_fork):
    assert spawn_fork(let_run, waiting).result()


def in_the_pool():
    gevent.reinit()
    return gevent.get_hub().threadpool.apply(os.getpid)


def test_after_reinit_the_pool_of_threads_works(waiting, spawn_fork):
    assert gevent.get_hub().threadpool.apply(os.getpid) == os.getpid()
    child = spawn_fork(in_the_pool)
    assert child.result() == child.pid
