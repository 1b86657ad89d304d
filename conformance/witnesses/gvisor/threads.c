/*
 * Threads of a process as gVisor has them.
 *
 * exec-after-main: a thread that execs when main has ended stays in the call for ever. execve(2):
 * it takes the process over.
 * divergent-filters: SECCOMP_FILTER_FLAG_TSYNC gives 0 and binds a thread that has a filter of its
 * own. seccomp(2): it gives that thread's id, and binds nobody.
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LONGEST 200 /* hundredths of a second */

static int pipe_ends[2];

static void *exec_later(void *nothing)
{
	usleep(200000);
	execl(self, self, "again", (char *)NULL);
	_exit(99);
	return nothing;
}

static int exec_after_main_hangs(void)
{
	pid_t child = fork();
	int status;

	if (!child) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, exec_later, NULL))
			_exit(98);
		syscall(SYS_exit, 0);
	}
	for (int looks = 0; looks < LONGEST; looks++) {
		usleep(10000);
		if (waitpid(child, &status, WNOHANG) != child)
			continue;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
			return 0;
		fail("the program that the thread runs");
	}
	kill(child, SIGKILL);
	return 1;
}

/* A filter that allows everything. */
static long filter(int flags)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {1, &allow};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		fail("no_new_privs");
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static void *has_its_own(void *nothing)
{
	char byte = 0;

	if (filter(0) || write(pipe_ends[1], &byte, 1) != 1)
		fail("a filter of the thread's own");
	pause();
	return nothing;
}

static int divergent_filters_are_bound(void)
{
	pthread_t thread;
	char byte;

	if (pipe(pipe_ends) || pthread_create(&thread, NULL, has_its_own, NULL) ||
	    read(pipe_ends[0], &byte, 1) != 1)
		fail("the thread");
	return filter(SECCOMP_FILTER_FLAG_TSYNC) == 0;
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"exec-after-main", exec_after_main_hangs},
		{"divergent-filters", divergent_filters_are_bound},
		{0},
	};

	if (argc > 1 && !strcmp(argv[1], "again"))
		return 77;
	return witness(facts, argc, argv);
}
