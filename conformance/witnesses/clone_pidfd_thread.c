/*
 * clone(2) says: CLONE_PIDFD can't be used together with CLONE_THREAD. Exit status 0: the call
 * makes a thread and a descriptor of it, as Linux 6.9 and later do; 1: EINVAL.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static char stack[65536] __attribute__((aligned(16)));
static int pidfd = -1;

static int ends(void *argument)
{
	(void)argument;
	syscall(SYS_exit, 0);
	return 0;
}

int main(void)
{
	int flags = CLONE_PIDFD | CLONE_VM | CLONE_SIGHAND | CLONE_THREAD;
	int thread = clone(ends, stack + sizeof(stack), flags, NULL, &pidfd);

	if (thread < 0) {
		printf("clone: %s\n", strerror(errno));
		return errno == EINVAL ? 1 : 2;
	}
	printf("a thread, descriptor %d\n", pidfd);
	return pidfd >= 0 ? 0 : 2;
}
