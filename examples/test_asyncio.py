"""asyncio: a child is not in its parent's running loop, and can run one of its own.

The loop itself must be left alone there: https://github.com/python/asyncio/issues/347
Since Python 3.12 the child's thread has no current loop any more (gh-66285):
https://docs.python.org/3/whatsnew/changelog.html
"""

import asyncio
import os


async def pid():
    await asyncio.sleep(0)
    return os.getpid()


def test_a_child_of_a_running_loop_runs_its_own(spawn):
    async def main():
        child = spawn(lambda: asyncio.run(pid()))
        return child.result(), child.pid

    result, expected = asyncio.run(main())
    assert result == expected
