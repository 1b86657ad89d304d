"""The keeper ends and removes all that a command left, whatever ends first: command, driver or patience.

Commands are small Python programs. All of their processes carry a mark in their environment: no
process with it may be there when the keeper has ended.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_procsemantics.native import build

pytestmark = [
    pytest.mark.skipif(
        not build.supported(), reason=f"no keeper for {sys.platform} {build.host()}"
    ),
    pytest.mark.timeout(120),
]

LIMIT = 60.0  # seconds for what takes milliseconds, or two seconds where a keeper is patient
NOBODY = 65534
MARK = "PROCSEM_TEST_MARK"
REMAINS, FAILED, NO_START = 124, 125, 127  # exit statuses, native/keeper.h

# Processes that are hard to end; each says one byte when it is what it shall be.
FOREST = """
import ctypes, os, signal, subprocess, sys

ready, tell = os.pipe()
planted = 0

def stay():
    os.write(tell, b".")
    while True:
        signal.pause()

def plant(*acts):
    global planted
    planted += 1
    if os.fork() == 0:
        for act in acts:
            act()
        stay()

def deaf():
    for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
        if number < 32:
            signal.signal(number, signal.SIG_IGN)

def orphaned():
    if os.fork():
        os._exit(0)

def chain():
    for _ in range(9):
        if os.fork():
            os.wait()

def stopped():
    os.write(tell, b".")
    while True:
        os.kill(os.getpid(), signal.SIGSTOP)

def reaper():
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    if os.fork():
        while True:
            signal.pause()
    orphaned()

def shell():
    script = "trap '' TERM HUP INT; (sleep 1000 & sleep 1000) & sleep 1000"
    subprocess.Popen(["/bin/sh", "-c", script], start_new_session=True)

plant(os.setsid)
plant(deaf)
plant(stopped)
plant(os.setsid, deaf, orphaned)
plant(os.setsid, deaf, orphaned, os.setsid, stopped)
plant(chain, deaf)
plant(reaper, os.setsid)
plant(shell)
plant(shell, orphaned, os.setsid)
while planted:
    planted -= len(os.read(ready, 100))
"""
DEAF = "deaf()\n"
SAY_READY = "print('ready', flush=True)\n"
STAY = SAY_READY + "while True: signal.pause()\n"
# Ends when its input ends or SIGTERM comes, and says which.
POLITE = """
import os, signal

def finish(*_):
    os.write(1, b"asked\\n")
    os._exit(3)

signal.signal(signal.SIGTERM, finish)
os.write(1, b"ready\\n")
os.read(0, 1)
os.write(1, b"end of input\\n")
"""
# Stands for the driver: starts the keeper, tells its pid and waits to be killed.
DRIVER = """
import os, signal, subprocess, sys

pidfd = -1 if sys.argv[1] == "polled" else os.pidfd_open(os.getpid())
command = [str(pidfd) if word == "PIDFD" else word for word in sys.argv[2:]]
control = int(command[2])
fds = [control] if pidfd == -1 else [control, pidfd]
print(subprocess.Popen(command, pass_fds=fds, stdout=subprocess.DEVNULL).pid, flush=True)
while True:
    signal.pause()
"""


@pytest.fixture(scope="module")
def agent() -> Iterator[Path]:
    """The agent, where every user can execute it."""
    if build.compiler() is None:
        pytest.skip("no C compiler")
    with tempfile.TemporaryDirectory(prefix="procsem-test-") as folder:
        os.chmod(folder, 0o755)
        yield build.build(Path(folder), [build.host()])[0]


class Keeper:
    """A keeper with a Python program as its command; what it says comes through pipes."""

    def __init__(self, agent: Path, user: int | None, python: str) -> None:
        self.agent = agent
        self.user = user
        self.python = python
        self.mark = uuid.uuid4().hex
        self.place = Path(tempfile.mkdtemp(prefix="procsem-test-"))
        self.place.chmod(0o777)
        self.folder = self.place / "run"
        self.heard, self.control = os.pipe()
        self.process: subprocess.Popen[bytes] | None = None

    def words(self, *command: str, pidfd: str = "-1", folder: str = "") -> list[str]:
        """The keeper's command line."""
        mode = [str(self.agent), "--procsem-keeper", str(self.heard), pidfd]
        return [*mode, folder or str(self.folder), str(self.agent), "--", *command]

    def popen(self, *words: str) -> subprocess.Popen[bytes]:
        """Start something that carries the mark."""
        return subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[self.heard],
            env={"PATH": os.environ.get("PATH", ""), "TMPDIR": "/wrong", MARK: self.mark},
            cwd="/",
            umask=0o077,
            user=self.user,
            group=self.user,
        )

    def start(self, program: str, *wrapper: str) -> subprocess.Popen[bytes]:
        """Start the keeper on a Python program."""
        self.process = self.popen(*wrapper, *self.words(self.python, "-c", program))
        return self.process

    def start_words(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a keeper with any command line."""
        self.process = self.popen(*words)
        return self.process

    def line(self) -> str:
        """The next line that the command says."""
        assert self.process is not None and self.process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], LIMIT)
            assert ready, f"no line within {LIMIT} s, only {line!r}"
            byte = os.read(self.process.stdout.fileno(), 1)
            assert byte, f"the output ended after {line!r}: {self.errors()}"
            line += byte
        return line.decode().strip()

    def rest(self) -> str:
        """All that the command still says before its output ends."""
        assert self.process is not None and self.process.stdout is not None
        return self.process.stdout.read().decode()

    def errors(self) -> str:
        """All that stands on standard error, which must have been closed."""
        assert self.process is not None and self.process.stderr is not None
        return self.process.stderr.read().decode()

    def close_input(self) -> None:
        """End the command's input."""
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.close()

    def close_control(self) -> None:
        """End the keeper's control pipe."""
        os.close(self.control)
        self.control = -1

    def status(self) -> int:
        """The keeper's exit status; nothing of the command is there then."""
        assert self.process is not None
        status = self.process.wait(LIMIT)
        assert marked(self.mark) == []
        return status

    def close(self) -> None:
        """Remove what a failed test left."""
        for fd in (self.control, self.heard):
            if fd >= 0:
                os.close(fd)
        if self.process is not None:
            for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
                assert stream is not None
                stream.close()
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait(LIMIT)
        for pid in marked(self.mark):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.place, ignore_errors=True)


def marked(mark: str) -> list[int]:
    """The processes that carry a mark in their environment."""
    found = []
    # Not by a pattern: Path.glob looks whether each file is there, and fails for one that is just ending.
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if f"{MARK}={mark}".encode() in Path("/proc", pid, "environ").read_bytes():
                found.append(int(pid))
        except OSError:  # ended meanwhile, or another user's
            continue
    return found


def becomes(condition: Callable[[], bool]) -> bool:
    """Whether a condition becomes true within the limit."""
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True


def works(*command: str, user: int | None = None) -> bool:
    """Whether a command can be run and succeeds."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=LIMIT, user=user, cwd="/")
    except OSError:
        return False
    return done.returncode == 0


def new_keeper(agent: Path, user: int | None, python: str) -> Iterator[Keeper]:
    one = Keeper(agent, user, python)
    try:
        yield one
    finally:
        one.close()


@pytest.fixture(params=["self", "nobody"])
def keeper(request: pytest.FixtureRequest, agent: Path) -> Iterator[Keeper]:
    """A keeper not yet started, as the user of this run and as an ordinary one."""
    if request.param == "self":
        yield from new_keeper(agent, None, sys.executable)
        return
    if os.geteuid() != 0:
        pytest.skip("runs as an ordinary user already")
    for python in (sys.executable, "/usr/bin/python3"):  # ours may lie in root's home
        if works(python, "-c", "", user=NOBODY):
            yield from new_keeper(agent, NOBODY, python)
            return
    pytest.skip("no Python that an ordinary user can run")


@pytest.fixture
def own_keeper(agent: Path) -> Iterator[Keeper]:
    """A keeper not yet started, as the user of this run."""
    yield from new_keeper(agent, None, sys.executable)


def test_the_command_finds_the_run_folder_with_an_agent(keeper: Keeper) -> None:
    keeper.start("import os, sys; print(os.environ['TMPDIR'], flush=True); sys.stdin.read()")
    assert keeper.line() == str(keeper.folder)
    copy = keeper.folder / "agent"
    assert stat.S_IMODE(keeper.folder.stat().st_mode) == 0o755
    assert stat.S_IMODE(copy.stat().st_mode) == 0o755
    assert copy.read_bytes() == keeper.agent.read_bytes()
    keeper.close_input()
    assert keeper.status() == 0
    assert not keeper.folder.exists()


def test_the_command_gets_a_normal_state(keeper: Keeper) -> None:
    keeper.start(
        "import os, signal\n"
        "names = [name for name in os.environ if name in ('TMPDIR', 'PROCSEM_TEST_MARK')]\n"
        "print(names, os.getsid(0) == os.getpid(), signal.pthread_sigmask(signal.SIG_BLOCK, []),\n"
        "      sorted(map(int, os.listdir('/proc/self/fd'))))\n"
    )
    # The last descriptor is the listing's own.
    assert keeper.line() == "['TMPDIR', 'PROCSEM_TEST_MARK'] True set() [0, 1, 2, 3]"
    assert keeper.status() == 0


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("", 0),
        ("raise SystemExit(7)", 7),
        ("raise SystemExit(255)", 255),
        ("import os; os.kill(os.getpid(), 9)", 128 + 9),
        ("import os; os.kill(os.getpid(), 15)", 128 + 15),
    ],
    ids=["0", "7", "255", "SIGKILL", "SIGTERM"],
)
def test_the_status_tells_how_the_command_ended(keeper: Keeper, program: str, status: int) -> None:
    keeper.start(program)
    assert keeper.status() == status
    assert not keeper.folder.exists()


def test_the_command_has_time_to_end_with_its_input(keeper: Keeper) -> None:
    keeper.start(POLITE)
    assert keeper.line() == "ready"
    os.write(keeper.control, b"e")
    keeper.close_input()
    assert keeper.rest() == "end of input\n"
    assert keeper.status() == 0


@pytest.mark.parametrize("byte", [b"e", b"k", b""], ids=["end", "at-once", "end-of-control"])
def test_a_command_that_stays_gets_sigterm(keeper: Keeper, byte: bytes) -> None:
    keeper.start(POLITE)
    assert keeper.line() == "ready"
    os.write(keeper.control, byte) if byte else keeper.close_control()
    assert keeper.rest() == "asked\n"
    assert keeper.status() == 0


def test_a_stopped_command_gets_sigterm(keeper: Keeper) -> None:
    keeper.start("import os\nprint(os.getpid(), flush=True)\n" + POLITE)
    pid = int(keeper.line())
    assert keeper.line() == "ready"
    os.kill(pid, signal.SIGSTOP)
    os.write(keeper.control, b"k")
    assert keeper.rest() == "asked\n"
    assert keeper.status() == 0


@pytest.mark.parametrize("byte", [b"e", b"k", b"ek", b""])
def test_nothing_of_a_forest_is_left_when_the_end_is_asked_for(keeper: Keeper, byte: bytes) -> None:
    keeper.start(FOREST + DEAF + STAY)
    assert keeper.line() == "ready"
    assert len(marked(keeper.mark)) > 20
    os.write(keeper.control, byte) if byte else keeper.close_control()
    assert keeper.status() == 0
    assert not keeper.folder.exists()


def test_nothing_of_a_forest_is_left_when_the_command_ends(keeper: Keeper) -> None:
    keeper.start(FOREST + SAY_READY + "sys.stdin.read(); os._exit(5)")
    assert keeper.line() == "ready"
    keeper.close_input()
    assert keeper.status() == 5
    assert not keeper.folder.exists()


def test_nothing_of_a_forest_is_left_without_children_files(keeper: Keeper, tmp_path: Path) -> None:
    """Kernels without CONFIG_PROC_CHILDREN have no such file: the agent then looks for parents."""
    sources = shutil.copytree(build.SOURCES, tmp_path / "sources")
    text = (sources / "children.h").read_text()
    assert '"/children"' in text
    (sources / "children.h").write_text(text.replace('"/children"', '"/no-children"'))
    keeper.place.joinpath("agent").write_bytes(
        build.build(tmp_path, [build.host()], sources)[0].read_bytes()
    )
    keeper.agent = keeper.place / "agent"
    keeper.agent.chmod(0o755)
    keeper.start(FOREST + DEAF + STAY)
    assert keeper.line() == "ready"
    os.write(keeper.control, b"k")
    assert keeper.status() == 0


@pytest.mark.parametrize("way", ["pidfd", "polled"])
def test_nothing_of_a_forest_is_left_when_the_driver_is_killed(keeper: Keeper, way: str) -> None:
    """This process holds the control pipe open all the time: it is not its end that tells."""
    up = keeper.place / "up"
    program = FOREST + DEAF + f"open({str(up)!r}, 'w').close()\n" + STAY
    words = keeper.words(keeper.python, "-c", program, pidfd="PIDFD")
    driver = keeper.start_words(keeper.python, "-c", DRIVER, way, *words)
    pidfd = os.pidfd_open(int(keeper.line()))
    try:
        assert becomes(up.exists)
        driver.kill()
        assert driver.wait(LIMIT) == -signal.SIGKILL
        ended, _, _ = select.select([pidfd], [], [], LIMIT)
        assert ended
    finally:
        os.close(pidfd)
    assert marked(keeper.mark) == []
    assert not keeper.folder.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_the_command_and_not_the_keeper(keeper: Keeper, number: int) -> None:
    process = keeper.start(POLITE)
    assert keeper.line() == "ready"
    process.send_signal(number)
    assert keeper.rest() == "asked\n"
    assert keeper.status() == 0
    assert not keeper.folder.exists()


def test_other_signals_do_nothing(keeper: Keeper) -> None:
    process = keeper.start(POLITE)
    assert keeper.line() == "ready"
    for number in (signal.SIGPIPE, signal.SIGUSR1, signal.SIGALRM, signal.SIGTSTP, signal.SIGRTMIN):
        process.send_signal(number)
    keeper.close_input()
    assert keeper.rest() == "end of input\n"
    assert keeper.status() == 0


def test_the_keeper_holds_no_stream_of_the_command_open(keeper: Keeper) -> None:
    keeper.start(
        "import os, signal\nfor fd in (0, 1, 2):\n    os.close(fd)\nwhile True: signal.pause()"
    )
    assert keeper.rest() == ""
    assert keeper.errors() == ""
    assert keeper.process is not None and keeper.process.poll() is None
    os.write(keeper.control, b"k")
    assert keeper.status() == 0


def test_orphans_are_reaped_while_the_command_runs(keeper: Keeper) -> None:
    keeper.start(
        "import os, sys\n"
        "if os.fork() == 0:\n"
        "    if os.fork() == 0:\n"
        "        print(os.getpid(), flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "sys.stdin.read()"
    )
    orphan = keeper.line()
    assert becomes(lambda: not Path("/proc", orphan).exists())
    assert keeper.process is not None and keeper.process.poll() is None
    keeper.close_input()
    assert keeper.status() == 0


def test_a_storm_of_forks_ends(own_keeper: Keeper) -> None:
    """In a pid namespace of its own, so that a failure of the keeper floods nobody."""
    namespace = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", "--map-root-user"]
    if not works(*namespace, "true"):
        pytest.skip("can't make a pid namespace here")
    own_keeper.start(
        "import os, sys\n"
        "for _ in range(4):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        while True:\n"
        "            if os.fork():\n"
        "                os._exit(0)\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()",
        *("timeout", "--signal=KILL", "100", *namespace),
    )
    assert own_keeper.line() == "ready"
    os.write(own_keeper.control, b"k")
    assert own_keeper.status() == 0
    assert not own_keeper.folder.exists()


@pytest.mark.parametrize(
    ("path", "error"), [("/no/such/program", 2), ("/proc/self/status", 13), ("/", 13)]
)
def test_a_command_that_cannot_start_is_told(keeper: Keeper, path: str, error: int) -> None:
    keeper.start_words(*keeper.words(path))
    assert keeper.errors() == f"procsem-keeper: {path}: errno {error}\n"
    assert keeper.status() == NO_START
    assert not keeper.folder.exists()


def test_a_run_folder_that_is_there_is_refused_and_left_alone(keeper: Keeper) -> None:
    keeper.folder.mkdir()
    (keeper.folder / "file").write_text("precious")
    keeper.start("print('never')")
    assert keeper.rest() == ""
    assert keeper.errors() == f"procsem-keeper: {keeper.folder}: errno 17\n"
    assert keeper.status() == FAILED
    assert (keeper.folder / "file").read_text() == "precious"


def test_an_agent_that_cannot_be_copied_is_told(keeper: Keeper) -> None:
    words = keeper.words(keeper.python, "-c", "print('never')")
    words[words.index("--") - 1] = "/no/such/agent"
    keeper.start_words(*words)
    assert keeper.rest() == ""
    assert keeper.errors() == "procsem-keeper: /no/such/agent: errno 2\n"
    assert keeper.status() == FAILED
    assert not keeper.folder.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["5", "-1", "/tmp/never", "/agent", "--"],
        ["5", "-1", "/tmp/never", "/agent", "/bin/true", "--"],
        ["5", "-1", "tmp/never", "/agent", "--", "/bin/true"],
        ["2", "-1", "/tmp/never", "/agent", "--", "/bin/true"],
        ["x", "-1", "/tmp/never", "/agent", "--", "/bin/true"],
        ["5", "-2", "/tmp/never", "/agent", "--", "/bin/true"],
        ["5", "-1", "/" * 4001, "/agent", "--", "/bin/true"],
    ],
    ids=["no-command", "no-dashes", "relative", "stderr", "no-number", "negative", "long"],
)
def test_wrong_arguments_are_refused(own_keeper: Keeper, words: list[str]) -> None:
    own_keeper.start_words(str(own_keeper.agent), "--procsem-keeper", *words)
    assert own_keeper.errors().startswith("procsem-keeper: usage: --procsem-keeper CONTROL_FD")
    assert own_keeper.status() == FAILED


def test_a_tree_is_removed_and_no_link_followed(keeper: Keeper) -> None:
    outside = keeper.place / "outside"
    outside.mkdir()
    outside.chmod(0o777)
    (outside / "file").write_text("precious")
    keeper.start(
        "import os, socket\n"
        "os.umask(0)\n"
        "os.chdir(os.environ['TMPDIR'])\n"
        f"os.symlink({str(outside)!r}, 'link')\n"
        f"os.symlink({str(outside / 'file')!r}, 'file-link')\n"
        "os.symlink('nowhere', 'dangling')\n"
        "os.mkfifo('fifo')\n"
        "socket.socket(socket.AF_UNIX).bind('socket')\n"
        "os.makedirs('0/1/2')\n"  # names that the keeper itself gives
        "open('1', 'w').close()\n"
        "os.makedirs('closed/inner/full')\n"
        "os.makedirs('closed/inner/empty')\n"
        f"os.symlink({str(outside)!r}, 'closed/inner/full/link')\n"
        "open('closed/inner/full/' + 'x' * 255, 'w').close()\n"
        "for path in ('closed/inner/empty', 'closed/inner/full', 'closed/inner'):\n"
        "    os.chmod(path, 0)\n"
        "os.chmod('closed', 0o555)\n"
        "os.mkdir('many')\n"
        "for number in range(300):\n"
        "    os.mkdir(f'many/{number}')\n"
        "    open(f'many/{number}/file', 'w').close()\n"
        "os.mkdir('deep')\n"
        "os.chdir('deep')\n"
        "for _ in range(300):\n"
        "    os.mkdir('d' * 100)\n"  # in the end a path of 30 kilobytes
        "    open('file', 'w').close()\n"
        "    os.chdir('d' * 100)\n"
        "os.chmod(os.environ['TMPDIR'], 0)\n",
        *("/bin/sh", "-c", 'ulimit -n 20 && exec "$@"', "sh"),
    )
    assert keeper.errors() == ""
    assert keeper.status() == 0
    assert not keeper.folder.exists()
    assert outside.stat().st_mode & 0o777 == 0o777
    assert (outside / "file").read_text() == "precious"


def test_a_run_folder_that_the_command_removed_is_no_error(keeper: Keeper) -> None:
    keeper.start("import os, shutil; shutil.rmtree(os.environ['TMPDIR'])")
    assert keeper.status() == 0


def test_a_link_in_the_place_of_the_run_folder_is_not_followed(keeper: Keeper) -> None:
    outside = keeper.place / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    keeper.start(
        "import os, shutil\n"
        "shutil.rmtree(os.environ['TMPDIR'])\n"
        f"os.symlink({str(outside)!r}, os.environ['TMPDIR'])\n"
    )
    assert keeper.status() == 0
    assert not keeper.folder.is_symlink()
    assert (outside / "file").read_text() == "precious"


@pytest.mark.parametrize("depth", ["", "a/b/c/"], ids=["top", "below"])
def test_a_mount_point_is_not_entered(own_keeper: Keeper, depth: str) -> None:
    """A bind mount of the same file system: its device does not give it away."""
    namespace = ["unshare", "--mount", "--map-root-user"]
    if not works(*namespace, "mount", "--bind", str(own_keeper.place), str(own_keeper.place)):
        pytest.skip("can't mount in a namespace here")
    outside = own_keeper.place / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    own_keeper.start(
        "import os, subprocess\n"
        f"point = os.path.join(os.environ['TMPDIR'], {depth!r} 'mount')\n"
        "os.makedirs(point)\n"
        "open(os.path.join(os.environ['TMPDIR'], 'file'), 'w').close()\n"
        f"subprocess.run(['mount', '--bind', {str(outside)!r}, point], check=True)\n",
        *namespace,
    )
    assert own_keeper.errors() == ""
    assert own_keeper.status() == REMAINS
    assert (outside / "file").read_text() == "precious"
    assert [path.name for path in own_keeper.folder.rglob("*") if path.is_file()] == []


GROUPS = """
import os, signal

def join(path):
    with open(os.path.join(path, "cgroup.procs"), "w") as file:
        file.write(str(os.getpid()))

outer, inner = GROUP, os.path.join(GROUP, "inner")
os.mkdir(outer)
os.mkdir(inner)
ready, tell = os.pipe()
if os.fork() == 0:
    join(inner)
    os.write(tell, b".")
    while True: signal.pause()
os.read(ready, 1)
join(outer)
print("ready", flush=True)
while True: signal.pause()
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A path for a control group below this process's own, in a hierarchy where one can be made."""
    path = None
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        kind, _, options = words[words.index("-") + 1 :][:3]
        if kind == "cgroup" and {"freezer", "pids"} & set(options.split(",")):
            path = own_group(Path(words[4]), options.split(","))
            break
    if path is None:
        pytest.skip(
            "no first version hierarchy in which processes of one program can be in two groups"
        )
    path = path / f"procsem-test-{uuid.uuid4().hex}"
    try:
        path.mkdir()
        path.rmdir()
    except OSError as error:
        pytest.skip(f"can't make a control group here: {error}")
    yield path
    for one in (path / "inner", path):
        if one.exists():
            one.rmdir()


def own_group(mount: Path, options: list[str]) -> Path:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and set(controllers.split(",")) <= set(options):
            return mount / path.lstrip("/")
    raise AssertionError(f"no group of this process in {mount}")


def test_the_control_groups_of_the_command_are_removed(own_keeper: Keeper, group: Path) -> None:
    own_keeper.start(GROUPS.replace("GROUP", repr(str(group))))
    assert own_keeper.line() == "ready"
    assert (group / "inner").is_dir()
    os.write(own_keeper.control, b"k")
    assert own_keeper.status() == 0
    assert not group.exists()


def test_a_control_group_in_which_others_live_stays(own_keeper: Keeper, group: Path) -> None:
    own_keeper.start(GROUPS.replace("GROUP", repr(str(group))))
    assert own_keeper.line() == "ready"
    with subprocess.Popen(["sleep", "1000"]) as other:
        try:
            (group / "cgroup.procs").write_text(str(other.pid))
            os.write(own_keeper.control, b"k")
            assert own_keeper.status() == 0
            assert group.exists() and not (group / "inner").exists()
            assert other.poll() is None
        finally:
            other.kill()
