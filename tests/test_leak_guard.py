"""leak_guard: each kind of leak is found and told once, and what libraries keep for good is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_procsemantics.leaks import snapshot

Run = Callable[..., pytest.RunResult]

pytestmark = pytest.mark.skipif(
    snapshot.why_not_here() is not None, reason=f"needs /proc: {snapshot.why_not_here()}"
)


@pytest.fixture
def run_here(pytester: pytest.Pytester) -> Run:
    """Run pytest on the files of `pytester` in this process, in their order."""
    plugins = ("-p", "pytest_procsemantics.plugin", "-p", "no:randomly")
    return lambda *args: pytester.runpytest_inprocess(*plugins, *args)


# The last test ends what the others left, so that nothing of it outlives the run.
LEAKS = """
import os, socket, subprocess, threading, time
from multiprocessing import resource_tracker, shared_memory

import pytest

kept = []

def test_child(leak_guard):
    kept.append(subprocess.Popen(["sleep", "600"]))

def test_two_children(leak_guard):
    kept.append(subprocess.Popen(["sleep", "601"]))
    kept.append(subprocess.Popen(["sleep", "602"]))

def test_zombie(leak_guard):
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

def test_file(leak_guard):
    kept.append(open(__file__))

def test_socket(leak_guard):
    kept.append(socket.create_server(("127.0.0.1", 0)))

def test_pipe(leak_guard):
    os.pipe()

def test_thread(leak_guard):
    go_on = threading.Event()
    kept.append(go_on)
    threading.Thread(target=go_on.wait, name="worker-1").start()

def test_pipe_in_an_expected_outcome(leak_guard):
    os.pipe()
    pytest.xfail("an outcome, and no exception")

def test_segment_closed(leak_guard):
    segment = shared_memory.SharedMemory("procsem_left", create=True, size=4096)
    segment.close()

def test_zombie_beside_a_failing_teardown(leak_guard, fails):
    os.posix_spawn("/bin/true", ["true"], {})

@pytest.fixture
def fails():
    yield
    raise ValueError("of the teardown")

def test_innocent(leak_guard):
    pass

def test_end(leak_guard):
    for one in kept:
        if isinstance(one, subprocess.Popen):
            one.kill()
            one.wait()
        elif isinstance(one, threading.Event):
            one.set()
        else:
            one.close()
    segment = shared_memory.SharedMemory("procsem_left")
    segment.close()
    segment.unlink()
"""


def test_each_kind_is_found_told_once_and_with_the_test_in_which_it_began(
    run_apart: Run, pytester: pytest.Pytester
) -> None:
    path = pytester.makepyfile(LEAKS).name
    # None of these ends by itself.
    pytester.makeconftest("from pytest_procsemantics.leaks import guard\nguard.GRACE = 0.1\n")
    # All tests in one worker: the last one cleans up after the others.
    result = run_apart("-p", "no:randomly", "--dist=loadfile")
    result.assert_outcomes(passed=11, xfailed=1, errors=10)
    for test, lines in {
        "test_child": ["*child *: sleep 600"],
        "test_two_children": ["*child *: sleep 601", "*began*", "*child *: sleep 602"],
        "test_zombie": ["*zombie *: true"],
        "test_file": [f"*descriptor *: *{path}"],
        "test_socket": ["*descriptor *: socket:* at 127.0.0.1:*"],
        "test_pipe": ["*descriptor *: pipe:*", "*began*", "*descriptor *: pipe:*"],
        "test_thread": ["*thread *: worker-1"],
        "test_pipe_in_an_expected_outcome": [
            "*descriptor *: pipe:*",
            "*began*",
            "*descriptor *: pipe:*",
        ],
        "test_segment_closed": ["*segment of 4096 bytes: /dev/shm/procsem_left"],
    }.items():
        result.stdout.fnmatch_lines(
            [
                f"*ERROR at teardown of {test} *",
                "[12] leak*: expected nothing new*",
                *lines,
                f"*began in {path}::{test}; next: *",
                "what is to stay belongs into *",
            ]
        )
    # A teardown that fails stays what it was; what was left stands below.
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_zombie_beside_a_failing_teardown *",
            "*ValueError: of the teardown",
            "*Captured leaks teardown*",
            "1 leak: *",
            "*zombie *: true",
        ]
    )


FIXTURES = """
import os, subprocess
import pytest

@pytest.fixture(scope="session")
def server():
    os.open("/dev/urandom", os.O_RDONLY)
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()

@pytest.fixture(scope="module")
def forgetful(server):
    reader, writer = os.pipe()
    yield reader
    os.close(writer)

@pytest.fixture
def proper():
    with open(__file__) as file:
        yield file

def test_first(server, forgetful, proper): pass
def test_second(server, forgetful, proper): pass
"""


def test_what_a_fixture_began_is_a_leak_once_the_fixture_is_over(
    run_apart: Run, pytester: pytest.Pytester
) -> None:
    path = pytester.makepyfile(FIXTURES).name
    result = run_apart("-p", "no:randomly", "--dist=loadfile", "--procsem-leak-guard")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_second *",
            "1 leak: *",
            "*descriptor *: pipe:*",
            f"*began in the setup of fixture 'forgetful' (module) for {path}::test_first; next: *",
        ]
    )


QUIET = """
import _thread, asyncio, concurrent.futures, gc, logging, multiprocessing, os, socket
import subprocess, sys, threading, time, types, warnings
from multiprocessing import shared_memory

import pytest

def nothing(): pass

class Holder:
    def __init__(self, descriptor):
        self.descriptor = descriptor
    def __del__(self):
        os.close(self.descriptor)

def test_agent(procsem):
    procsem.new_process()

def test_spawned(spawn_fork):
    assert spawn_fork(os.getpid).result() != os.getpid()

# Libraries keep such a descriptor for good.
def test_random_device():
    os.open("/dev/urandom", os.O_RDONLY)

@pytest.mark.parametrize("kind", ["fork", "spawn", "forkserver"])
def test_multiprocessing(kind):
    context = multiprocessing.get_context(kind)
    queue = context.Queue()
    queue.put(1)
    assert queue.get() == 1
    process = context.Process(target=nothing)
    process.start()
    process.join()
    process.close()

def test_segment_and_resource_tracker():
    segment = shared_memory.SharedMemory(create=True, size=1)
    segment.close()
    segment.unlink()

def test_semaphores():
    multiprocessing.get_context("spawn").Semaphore()

def test_captured(capfd):
    os.write(1, b"something")
    subprocess.run(["echo", "more"], check=True)
    assert capfd.readouterr().out == "something" + "more\\n"

def test_capture_off(capsys):
    with capsys.disabled():
        print()

def test_logged(caplog, tmp_path, monkeypatch, recwarn):
    logging.getLogger().warning("logged")

def test_event_loop_with_threads():
    async def main():
        await asyncio.to_thread(nothing)
        process = await asyncio.create_subprocess_exec("true")
        assert await process.wait() == 0
        await asyncio.open_connection(*address)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asyncio.run(main())
            gc.collect()

def test_event_loop_closed_beside_its_threads():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(loop.run_in_executor(None, nothing))
    loop.close()

@pytest.fixture(scope="module")
def wide_loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()

def test_threads_of_an_event_loop_of_wider_scope(wide_loop):
    wide_loop.run_until_complete(wide_loop.run_in_executor(None, nothing))

def test_executor_that_ends_later():
    executor = concurrent.futures.ThreadPoolExecutor()
    executor.submit(nothing)
    executor.shutdown(wait=False)

def test_thread_that_ends_soon():
    threading.Timer(0.2, nothing).start()

def test_child_that_a_thread_waits_for():
    child = subprocess.Popen(["true"])
    threading.Thread(target=child.wait).start()

def test_cycle_that_holds_a_descriptor():
    one, other = map(Holder, os.pipe())
    one.other, other.other = other, one

@pytest.mark.xfail(strict=True, raises=AssertionError)
def test_failure_whose_frame_holds_a_descriptor():
    holder = Holder(os.open(__file__, os.O_RDONLY))
    assert holder is None

def test_outcome_whose_frame_held_a_descriptor():
    holder = Holder(os.open(__file__, os.O_RDONLY))
    pytest.xfail("an outcome, and no exception")

# What NumPy's BLAS does when NumPy is imported.
def test_threads_of_an_extension_module_imported_now():
    module = sys.modules["procsem_pool"] = types.ModuleType("procsem_pool")
    module.__file__ = "procsem_pool.so"
    _thread.start_new_thread(time.sleep, (600,))

@pytest.mark.timeout(60, method="thread")
def test_timer_of_pytest_timeout(): pass

@pytest.mark.timeout(60, method="thread", func_only=True)
def test_timer_of_pytest_timeout_for_the_function(): pass
"""


def test_what_libraries_keep_for_good_is_no_leak(run_apart: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(QUIET)
    pytester.makeini("[pytest]\nprocsem_leak_guard = true\nfaulthandler_timeout = 60\n")
    result = run_apart("-W", "error")
    assert result.ret == 0, result.stdout.str()
    assert set(result.parseoutcomes()) <= {"passed", "xfailed"}


@pytest.mark.parametrize("options", [()], indirect=True, ids=["one-process"])
def test_a_warning_about_garbage_is_the_tests_own(
    run_apart: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile("""
        import gc

        gc.disable()  # Python may collect it at any moment by itself

        def test_cycle():
            cycle = [open(__file__)]
            cycle.append(cycle)

        def test_next(): pass
    """)
    result = run_apart("--procsem-leak-guard", "-W", "error")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_cycle *", "*ResourceWarning: unclosed file *"]
    )


def test_what_is_allowed_is_no_leak(run_here: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import os, threading
        kept = []

        def test_allowed(tmp_path):
            go_on = threading.Event()
            kept.append(go_on)
            threading.Thread(target=go_on.wait, name="pool-7").start()
            kept.append(open(tmp_path / "cache.db", "w"))

        def test_end():
            for one in kept:
                one.set() if isinstance(one, threading.Event) else one.close()
    """)
    pytester.makeini(
        "[pytest]\nprocsem_leak_guard = true\n"
        "procsem_leak_allow =\n    thread pool-*\n    descriptor *.db\n"
    )
    run_here().assert_outcomes(passed=2)


@pytest.mark.parametrize("line", ["thread", "tread pool-*", "*"])
def test_a_line_that_allows_nothing_is_refused(
    run_here: Run, pytester: pytest.Pytester, line: str
) -> None:
    pytester.makeini(f"[pytest]\nprocsem_leak_allow = {line}\n")
    result = run_here()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: ini key procsem_leak_allow: {line!r} is no kind *"])


def test_elsewhere_the_fixture_skips_and_the_header_says_why(
    run_here: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "why_not_here", lambda: "no Linux but darwin")
    pytester.makepyfile("""
        def test_with(leak_guard): pass
        def test_without(): open(__file__).close()
    """)
    result = run_here("--procsem-leak-guard", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "procsem leak guard: off, needs Linux and its /proc (no Linux but darwin)",
            "SKIPPED * leak_guard needs Linux and its /proc (no Linux but darwin)",
        ]
    )
