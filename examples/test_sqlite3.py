"""SQLite: an open connection must not be carried across a fork, for the child believes in locks that it does not have.

https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_across_a_fork_
"""

import sqlite3

import pytest


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "data.db"
    with sqlite3.connect(path) as database:
        database.execute("create table numbers (number)")
    database.close()
    return path


def numbers(path):
    database = sqlite3.connect(path)
    try:
        return [number for (number,) in database.execute("select number from numbers order by 1")]
    finally:
        database.close()


def insert(path, number):
    database = sqlite3.connect(path, timeout=0)
    with database:
        database.execute("insert into numbers values (?)", [number])
    database.close()


def test_a_child_that_opens_the_file_itself_meets_the_parents_lock(path, spawn_fork):
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("begin immediate")
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        spawn_fork(insert, path, 1).result()
    database.execute("rollback")
    spawn_fork(insert, path, 2).result()
    database.close()
    assert numbers(path) == [2]


def commit(database):
    database.execute("commit")


def test_what_a_child_commits_stays_though_the_parent_rolls_it_back(path, spawn_fork):
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("begin exclusive")
    database.execute("insert into numbers values (1)")
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        spawn_fork(commit, database).result()
    database.execute("rollback")
    database.close()
    # Failed there, rolled back here, and yet in the file.
    assert numbers(path) == [1]
