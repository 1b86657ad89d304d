"""PyMongo: a client that was opened before the fork warns in the child; one that connects later does not.

https://pymongo.readthedocs.io/en/4.12.0/faq.html#is-pymongo-fork-safe
"""

import contextlib
import socket
import warnings

import pytest
from pymongo import MongoClient
from pymongo.errors import ServerSelectionTimeoutError


@pytest.fixture
def address():
    """Where nobody listens, and nobody else can."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"mongodb://127.0.0.1:{bound.getsockname()[1]}/?serverSelectionTimeoutMS=100"


def ask(client):
    """Use the client; that no server is there is no matter of this test."""
    with contextlib.suppress(ServerSelectionTimeoutError):
        client.admin.command("ping")


def test_a_client_that_is_open_warns_in_the_child(address, spawn_fork):
    before_fork = pytest.warns(UserWarning, match="MongoClient opened before fork")
    with MongoClient(address, connect=True) as client, before_fork:
        spawn_fork(ask, client).result()


def test_a_client_that_has_not_connected_is_the_childs_own(address, spawn_fork):
    with MongoClient(address, connect=False) as client, warnings.catch_warnings():
        warnings.simplefilter("error")
        spawn_fork(ask, client).result()
