"""SQLAlchemy: a pool's connections must not be used on both sides of a fork; three of the documented ways out.

https://docs.sqlalchemy.org/en/20/core/pooling.html#using-connection-pools-with-multiprocessing-or-os-fork
"""

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.pool import NullPool


@pytest.fixture(params=[None, NullPool], ids=["with-pool", "without"])
def engine(request, tmp_path):
    """An engine for a file; `engine.opened` has the connections that were opened, also by a child in its copy."""
    engine = create_engine(f"sqlite:///{tmp_path / 'data.db'}", poolclass=request.param)
    engine.opened = []
    event.listen(engine, "connect", lambda connection, record: engine.opened.append(connection))
    with engine.connect() as connection:
        connection.execute(text("select 1"))
    yield engine
    engine.dispose()


def opened(engine):
    """How many connections a process opens when it asks for one."""
    before = len(engine.opened)
    with engine.connect():
        return len(engine.opened) - before


def opened_after_dispose(engine):
    engine.dispose(close=False)
    return opened(engine)


@pytest.mark.parametrize("engine", [None], ids=["with-pool"], indirect=True)
def test_a_child_takes_the_parents_connection_from_the_pool(engine, spawn):
    assert spawn(opened, engine).result() == 0


@pytest.mark.parametrize("engine", [None], ids=["with-pool"], indirect=True)
def test_after_dispose_without_close_the_child_opens_its_own(engine, spawn):
    assert spawn(opened_after_dispose, engine).result() == 1
    # The parent's pool and its connection are as they were.
    assert engine.pool.checkedin() == 1
    assert opened(engine) == 0


@pytest.mark.parametrize("engine", [None], ids=["with-pool"], indirect=True)
def test_after_dispose_before_the_fork_there_is_nothing_to_share(engine, spawn):
    engine.dispose()
    assert spawn(opened, engine).result() == 1


@pytest.mark.parametrize("engine", [NullPool], ids=["without-pool"], indirect=True)
def test_without_a_pool_each_process_opens_its_own(engine, spawn):
    assert spawn(opened, engine).result() == 1
