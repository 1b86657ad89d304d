/*
 * PRoot traces every process and plays a part of the kernel. It doesn't know clone3, so that it
 * takes a sharer for a copy, nor unshare, so that a copy stays a sharer; it lets a process go on
 * that a signal has stopped; it loses a thread that execs; of ptrace it plays neither PTRACE_SEIZE
 * nor the stop of a traced child, nor what is said of threads; it is the tracer of all in /proc; it
 * keeps chroot and the program break to itself.
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef PTRACE_SEIZE
#define PTRACE_SEIZE 0x4206
#endif

static long clone3_with(unsigned long flags)
{
	struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};

	return syscall(SYS_clone3, &args, sizeof(args));
}

static int directory_of_sharer(void)
{
	char path[PATH_MAX];
	long child;

	chdir("/");
	child = clone3_with(CLONE_FS);
	if (!child)
		_exit(chdir("/tmp"));
	waitpid(child, NULL, 0);
	syscall(SYS_getcwd, path, sizeof(path));
	return strcmp(path, "/") == 0;
}

static int directory_after_unshare(void)
{
	char path[PATH_MAX];
	long child;

	chdir("/");
	child = syscall(SYS_clone, CLONE_FS | SIGCHLD, 0, 0, 0, 0);
	if (!child)
		_exit(syscall(SYS_unshare, CLONE_FS) || chdir("/tmp"));
	waitpid(child, NULL, 0);
	syscall(SYS_getcwd, path, sizeof(path));
	return strcmp(path, "/tmp") == 0;
}

/* The child has the memory of its maker, who waits for it. */
static int break_of_sharer(void)
{
	long before = syscall(SYS_brk, 0);
	long child = clone3_with(CLONE_VM | CLONE_VFORK);

	if (!child) {
		syscall(SYS_brk, before + 0x10000);
		_exit(0);
	}
	return syscall(SYS_brk, 0) == before;
}

/* A child that answers a byte by a byte: it should not while it is stopped. */
static int stopped_goes_on(void)
{
	int to_child[2], from_child[2], status, answers;
	pid_t child;
	char byte;

	pipe(to_child);
	pipe(from_child);
	child = fork();
	if (!child) {
		for (;;) {
			read(to_child[0], &byte, 1);
			write(from_child[1], "x", 1);
		}
	}
	kill(child, SIGSTOP);
	if (waitpid(child, &status, WUNTRACED) != child || !WIFSTOPPED(status))
		return 0;
	write(to_child[1], "x", 1);
	answers = poll(&(struct pollfd){from_child[0], POLLIN, 0}, 1, 300);
	kill(child, SIGKILL);
	return answers == 1;
}

static void *execs(void *unused)
{
	execl(self, self, "again", (char *)NULL);
	return unused;
}

static int thread_that_execs(void)
{
	pthread_t thread;
	int status;

	if (!fork()) {
		pthread_create(&thread, NULL, execs, NULL);
		pause();
	}
	wait(&status);
	printf("wait status %#x\n", status);
	return status != 0;
}

static int no_seize(void)
{
	pid_t child = fork();
	long result;

	if (!child)
		pause();
	result = ptrace(PTRACE_SEIZE, child, NULL, NULL);
	printf("%ld, %s\n", result, strerror(errno));
	kill(child, SIGKILL);
	return result < 0 && errno == ESRCH;
}

/* The waits end by an alarm where nobody tells of the child. */
static void on_alarm(int signal)
{
	(void)signal;
}

static int no_stop_of_traced(void)
{
	struct sigaction action = {.sa_handler = on_alarm};
	siginfo_t info = {0};
	pid_t child = fork();

	if (!child) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGUSR1);
		_exit(0);
	}
	sigaction(SIGALRM, &action, NULL);
	alarm(1);
	return waitid(P_PID, child, &info, WEXITED | WSTOPPED | WNOWAIT) ||
	       info.si_code != CLD_TRAPPED;
}

/* To a tracer it doesn't matter whether its child is one of clone. */
/* SIGCHLD is to tell of the stop. */
static int signal_of_traced(void)
{
	const struct timespec longest = {2, 0};
	siginfo_t info = {0};
	sigset_t set;
	pid_t child;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	child = fork();
	if (!child) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGUSR1);
		_exit(0);
	}
	sigtimedwait(&set, &info, &longest);
	printf("si_code %d, si_pid %d of %d\n", info.si_code, info.si_pid, child);
	kill(child, SIGKILL);
	return info.si_code == SI_USER;
}

static int no_wclone_of_traced(void)
{
	struct sigaction action = {.sa_handler = on_alarm};
	int status = 0, found, ready[2];
	pid_t child;
	char byte;

	pipe(ready);
	child = fork();
	if (!child) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		write(ready[1], "x", 1);
		raise(SIGUSR1);
		_exit(0);
	}
	read(ready[0], &byte, 1);
	sigaction(SIGALRM, &action, NULL);
	alarm(1);
	found = waitpid(child, &status, __WCLONE) == child && WIFSTOPPED(status);
	kill(child, SIGKILL);
	return !found;
}

static char root[] = "/tmp/witness-XXXXXX";

static int root_in_proc(void)
{
	char link[64], seen[PATH_MAX] = "";
	int ready[2];
	pid_t child;

	pipe(ready);
	if (!mkdtemp(root))
		fail(root);
	child = fork();
	if (!child) {
		if (chroot(root))
			fail("chroot");
		write(ready[1], "x", 1);
		pause();
	}
	read(ready[0], seen, 1);
	snprintf(link, sizeof(link), "/proc/%d/root", child);
	seen[readlink(link, seen, sizeof(seen) - 1)] = 0;
	kill(child, SIGKILL);
	rmdir(root);
	printf("%s\n", seen);
	return strcmp(seen, "/") == 0;
}

/* This program, which needs nothing else, under a root that has just it. */
static int root_after_exec(void)
{
	static char buffer[1 << 20];
	char path[64];
	int from = open("/proc/self/exe", O_RDONLY), to, status;
	ssize_t length;

	if (!mkdtemp(root))
		fail(root);
	snprintf(path, sizeof(path), "%s/program", root);
	to = open(path, O_WRONLY | O_CREAT, 0755);
	while ((length = read(from, buffer, sizeof(buffer))) > 0)
		write(to, buffer, length);
	close(to);
	if (!fork()) {
		if (chroot(root))
			fail("chroot");
		execl("/program", "/program", "again", (char *)NULL);
		_exit(errno == ENOENT ? 9 : 0);
	}
	wait(&status);
	unlink(path);
	rmdir(root);
	return WEXITSTATUS(status) == 9;
}

/* The break is elsewhere than the kernel's, so that the kernel knows no heap. */
static int no_heap_in_maps(void)
{
	char line[512];
	FILE *maps;

	syscall(SYS_brk, syscall(SYS_brk, 0) + 0x10000);
	maps = fopen("/proc/self/maps", "r");
	while (fgets(line, sizeof(line), maps))
		if (strstr(line, "[heap]"))
			return 0;
	return 1;
}

/* Without capabilities nobody may attach who is not dumpable. */
static int attaches_to_all(void)
{
	int ready[2], result;
	char byte;
	pid_t child;

	if (pipe(ready) || setresuid(1000, 1000, 1000))
		fail("setresuid");
	child = fork();
	if (!child) {
		prctl(PR_SET_DUMPABLE, 0);
		write(ready[1], "", 1);
		pause();
		_exit(0);
	}
	read(ready[0], &byte, 1);
	result = ptrace(PTRACE_ATTACH, child, NULL, NULL);
	printf("PTRACE_ATTACH gives %d\n", result);
	kill(child, SIGKILL);
	return result == 0;
}

static pid_t traced_child(void)
{
	int ready[2];
	pid_t child;
	char byte;

	pipe(ready);
	child = fork();
	if (!child) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		write(ready[1], "x", 1);
		pause();
	}
	read(ready[0], &byte, 1);
	return child;
}

static int tracer_in_status(void)
{
	char line[512];
	pid_t child = traced_child();
	int tracer = 0;
	FILE *status;

	snprintf(line, sizeof(line), "/proc/%d/status", child);
	status = fopen(line, "r");
	while (fgets(line, sizeof(line), status))
		sscanf(line, "TracerPid: %d", &tracer);
	kill(child, SIGKILL);
	return tracer != getpid();
}

/* A child of clone without a signal should be traced as its maker is. */
static int no_trace_of_clone_child(void)
{
	unsigned long new = 0;
	int status, result;
	pid_t child = fork();

	if (!child) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		syscall(SYS_clone, 0, 0, 0, 0, 0);
		pause();
	}
	waitpid(child, &status, 0);
	ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_TRACECLONE);
	ptrace(PTRACE_CONT, child, NULL, NULL);
	waitpid(child, &status, 0);
	ptrace(PTRACE_GETEVENTMSG, child, NULL, &new);
	result = waitpid(new, &status, __WALL) < 0 && errno == ECHILD;
	kill(new, SIGKILL);
	kill(child, SIGKILL);
	return result;
}

static void *holds(void *ids)
{
	write(*(int *)ids, (int[]){syscall(SYS_gettid)}, sizeof(int));
	pause();
	return NULL;
}

static void *is_traced_and_ends(void *ids)
{
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	write(*(int *)ids, (int[]){syscall(SYS_gettid)}, sizeof(int));
	syscall(SYS_exit, 5);
	return NULL;
}

/* The end of a thread that asked to be traced is told to its process's parent. */
static int no_end_of_traced_thread(void)
{
	int ids[2], id, status, found;
	pthread_t thread;
	pid_t child;

	pipe(ids);
	child = fork();
	if (!child) {
		pthread_create(&thread, NULL, is_traced_and_ends, &ids[1]);
		pause();
	}
	read(ids[0], &id, sizeof(id));
	usleep(200000);
	found = waitpid(id, &status, __WALL | WNOHANG);
	kill(child, SIGKILL);
	return found != id;
}

static int attaches_to_own_thread(void)
{
	int ids[2], id;
	pthread_t thread;

	pipe(ids);
	pthread_create(&thread, NULL, holds, &ids[1]);
	read(ids[0], &id, sizeof(id));
	return ptrace(PTRACE_ATTACH, id, NULL, NULL) == 0;
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"directory-of-clone3-sharer", directory_of_sharer},
		{"directory-after-unshare", directory_after_unshare},
		{"break-of-clone3-sharer", break_of_sharer},
		{"stopped-goes-on", stopped_goes_on},
		{"thread-that-execs", thread_that_execs},
		{"no-seize", no_seize},
		{"no-stop-of-traced", no_stop_of_traced},
		{"signal-of-traced", signal_of_traced},
		{"no-wclone-of-traced", no_wclone_of_traced},
		{"root-in-proc", root_in_proc},
		{"root-after-exec", root_after_exec},
		{"no-heap-in-maps", no_heap_in_maps},
		{"attach", attaches_to_all},
		{"attach-own-thread", attaches_to_own_thread},
		{"tracer-in-status", tracer_in_status},
		{"no-trace-of-clone-child", no_trace_of_clone_child},
		{"no-end-of-traced-thread", no_end_of_traced_thread},
		{0},
	};

	if (argc > 1 && !strcmp(argv[1], "again"))
		return 0;
	return witness(facts, argc, argv);
}
