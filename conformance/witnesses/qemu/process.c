/*
 * QEMU's user emulation of processes: it has a thread of its own in each and memory of its own,
 * hands some attributes not on to the kernel, and fills some results in by itself
 * (linux-user/syscall.c, linux-user/signal.c).
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

static char *pages(int count)
{
	char *start = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);

	if (start == MAP_FAILED)
		fail("mmap");
	memset(start, 1, count * PAGE);
	return start;
}

static int threads(void)
{
	DIR *folder = opendir("/proc/self/task");
	int count = 0;

	while (readdir(folder))
		count++;
	closedir(folder);
	return count - 2; /* . and .. */
}

static int has_a_thread_of_its_own(void)
{
	int status;

	if (!fork())
		_exit(threads());
	wait(&status);
	printf("%d threads, %d in the child\n", threads(), WEXITSTATUS(status));
	return threads() == 2 && WEXITSTATUS(status) == 2;
}

/* The child writes 32 pages, by code that is translated there, into the emulator's own memory. */
static int has_faults_of_its_own(void)
{
	char *start = pages(32);
	struct rusage before, after;
	int status, page;

	if (!fork()) {
		/* Writes to each variable, so that no page of the stack is copied later. */
		page = 0;
		getrusage(RUSAGE_SELF, &after);
		getrusage(RUSAGE_SELF, &before);
		for (; page < 32; page++)
			start[page * PAGE] = 2;
		getrusage(RUSAGE_SELF, &after);
		_exit(after.ru_minflt - before.ru_minflt);
	}
	wait(&status);
	printf("%d faults\n", WEXITSTATUS(status));
	return WEXITSTATUS(status) > 32;
}

static int advice_on_fork_is_ignored(void)
{
	char *wiped = pages(1), *absent = pages(1);
	int status;

	if (madvise(wiped, PAGE, MADV_WIPEONFORK) || madvise(absent, PAGE, MADV_DONTFORK))
		fail("madvise");
	if (!fork())
		_exit(*wiped == 1 && *absent == 1);
	wait(&status);
	return WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

/* MADV_WIPEONFORK is for private memory only, and a guard can't be read. */
static int advice_is_ignored(void)
{
	char *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *guard = pages(1);
	int ends[2];

	if (pipe(ends) || madvise(guard, PAGE, 102 /* MADV_GUARD_INSTALL */))
		fail("madvise");
	return !madvise(shared, PAGE, MADV_WIPEONFORK) && write(ends[1], guard, 1) == 1;
}

/* Of x86_64: modify_ldt, which enters a segment. */
static int no_descriptor_table(void)
{
	unsigned int segment[4] = {0, 0x1000, 0xF, 0x51};

	return syscall(154, 0x11, segment, sizeof(segment)) && errno == EINVAL;
}

/* Without SA_NOCLDWAIT a zombie is left, and the wait finds it. */
static int nocldwait_is_dropped(void)
{
	struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
	pid_t child;

	sigaction(SIGCHLD, &action, NULL);
	child = fork();
	if (!child)
		_exit(0);
	return waitpid(child, NULL, 0) == child;
}

static volatile sig_atomic_t told;

static void on_child(int signal)
{
	(void)signal;
	told++;
}

/* With SA_NOCLDSTOP a child's stop should not be told. */
static int nocldstop_is_dropped(void)
{
	struct sigaction action = {.sa_handler = on_child, .sa_flags = SA_NOCLDSTOP | SA_RESTART};
	pid_t child;
	int seen;

	sigaction(SIGCHLD, &action, NULL);
	child = fork();
	if (!child)
		for (;;)
			pause();
	kill(child, SIGSTOP);
	waitpid(child, NULL, WUNTRACED);
	seen = told;
	kill(child, SIGKILL);
	return seen == 1;
}

/* For x86_64: the machine of a process with 32 bits is i686. */
static int machine_stays(void)
{
	struct utsname name;

	if (personality(PER_LINUX32) < 0 || uname(&name))
		fail("personality");
	printf("%s\n", name.machine);
	return strcmp(name.machine, "i686") != 0;
}

static int no_sub_reaper(void)
{
	return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) && errno == EINVAL;
}

static int no_thp_disable(void)
{
	return prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) && errno == EINVAL;
}

static int no_ptrace(void)
{
	return syscall(SYS_ptrace, 0, 0, 0, 0) && errno == ENOSYS;
}

/* With WNOHANG and nobody to report Linux sets si_uid and si_status to 0, too. */
static int some_is_not_stored(void)
{
	siginfo_t info;
	pid_t child = fork();

	if (!child)
		pause();
	memset(&info, 77, sizeof(info));
	waitid(P_PID, child, &info, WEXITED | WNOHANG);
	kill(child, SIGKILL);
	printf("signal %#x, pid %#x, user %#x, status %#x\n", info.si_signo, info.si_pid,
	       info.si_uid, info.si_status);
	return info.si_uid != 0 || info.si_status != 0;
}

/* The child needs a thread for the emulator, which is one process too many. */
static int fork_at_the_limit_dies(void)
{
	struct rlimit two = {2, 2}, none = {0, 0};
	uid_t user = 100000 + getpid(); /* has no other process */
	int status;
	pid_t child;

	setrlimit(RLIMIT_CORE, &none);
	if (setresuid(user, user, user) || setrlimit(RLIMIT_NPROC, &two))
		fail("setrlimit");
	child = fork();
	if (!child)
		_exit(0);
	if (child < 0 || waitpid(child, &status, 0) != child)
		return 0;
	printf("wait status %#x\n", status);
	return status != 0;
}

static int flags_of_threads(void)
{
	return unshare(CLONE_THREAD) && errno == EINVAL && unshare(CLONE_VM) && errno == EINVAL;
}

static int high_flags_of_unshare(void)
{
	return !syscall(SYS_unshare, 1L << 63);
}

/* The other thread has the list of adjustments, too. */
static int adjustments_after_unshare(void)
{
	struct sembuf undone = {0, 1, SEM_UNDO};
	int semaphore = semget(IPC_PRIVATE, 1, 0600), value;

	if (semaphore < 0 || semop(semaphore, &undone, 1) || unshare(CLONE_SYSVSEM))
		fail("a semaphore");
	value = semctl(semaphore, 0, GETVAL);
	semctl(semaphore, 0, IPC_RMID);
	return value == 1;
}

/* A request that no driver knows is ENOTTY on Linux. */
static int requests_are_refused(void)
{
	char information[88] = "";

	return ioctl(open("/dev/null", O_RDONLY), _IOWR(0xff, 11, information), information) < 0 &&
	       errno == ENOSYS;
}

static int no_protected_code(void)
{
	return prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0) && errno == EINVAL;
}

static int no_merging(void)
{
	return prctl(67 /* PR_SET_MEMORY_MERGE */, 1, 0, 0, 0) && errno == EINVAL;
}

static int no_time_stamp_counter(void)
{
	return prctl(PR_SET_TSC, PR_TSC_ENABLE, 0, 0, 0) && errno == EINVAL;
}

static int no_dispatch(void)
{
	return prctl(59 /* PR_SET_SYSCALL_USER_DISPATCH */, 0, 0, 0, 0) && errno == EINVAL;
}

static int last_signal_is_none(void)
{
	return prctl(PR_SET_PDEATHSIG, 64, 0, 0, 0) && errno == EINVAL;
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"thread-of-its-own", has_a_thread_of_its_own},
		{"flags-of-threads", flags_of_threads},
		{"high-flags-of-unshare", high_flags_of_unshare},
		{"adjustments-after-unshare", adjustments_after_unshare},
		{"faults-of-its-own", has_faults_of_its_own},
		{"advice-on-fork", advice_on_fork_is_ignored},
		{"advice", advice_is_ignored},
		{"descriptor-table", no_descriptor_table},
		{"nocldwait", nocldwait_is_dropped},
		{"nocldstop", nocldstop_is_dropped},
		{"machine-of-32-bits", machine_stays},
		{"sub-reaper", no_sub_reaper},
		{"thp-disable", no_thp_disable},
		{"ptrace", no_ptrace},
		{"requests", requests_are_refused},
		{"waitid-nothing", some_is_not_stored},
		{"fork-at-the-limit", fork_at_the_limit_dies},
		{"protected-code", no_protected_code},
		{"memory-merge", no_merging},
		{"time-stamp-counter", no_time_stamp_counter},
		{"user-dispatch", no_dispatch},
		{"last-signal", last_signal_is_none},
		{0},
	};

	return witness(facts, argc, argv);
}
