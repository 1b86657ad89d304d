"""Loguru: with `enqueue=True` the sink stays in the parent, and a child that calls `complete()` loses no message.

https://loguru.readthedocs.io/en/stable/resources/recipes.html#compatibility-with-multiprocessing-using-enqueue-argument
"""

import functools

import pytest
from loguru import logger


@pytest.fixture
def lines(request):
    """What the parent's sink is given."""
    lines = []
    add = functools.partial(logger.add, level="INFO", format="{message}", enqueue=request.param)
    handler = add(lambda message: lines.append(message.strip()))
    yield lines
    logger.remove(handler)


def log():
    logger.info("from the child")
    logger.complete()


@pytest.mark.parametrize("lines", [True], ids=["enqueue"], indirect=True)
def test_the_parent_writes_what_its_child_logs(lines, spawn):
    spawn(log).result()
    logger.complete()
    assert lines == ["from the child"]


@pytest.mark.procsem_primitives("fork", "clone", "clone3")  # a child by vfork has its parent's sink
@pytest.mark.parametrize("lines", [False], ids=["direct"], indirect=True)
def test_without_a_queue_each_process_has_a_sink_of_its_own(lines, spawn):
    spawn(log).result()
    assert lines == []
