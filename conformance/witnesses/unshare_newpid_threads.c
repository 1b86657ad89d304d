/*
 * unshare(2) says: CLONE_NEWPID implies CLONE_THREAD, which a process with more than one thread may
 * not give. Exit status 0: such a process may, and its next child is the first process of the new
 * namespace, as on Linux; 1: EINVAL. An ordinary user needs a user namespace for it, so that is
 * asked for first.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *idle(void *nothing)
{
	pause();
	return nothing;
}

int main(void)
{
	pthread_t thread;
	int status;

	if (geteuid() && unshare(CLONE_NEWUSER))
		return 2;
	if (pthread_create(&thread, NULL, idle, NULL))
		return 2;
	if (unshare(CLONE_NEWPID)) {
		printf("unshare: %s\n", strerror(errno));
		return errno == EINVAL ? 1 : 2;
	}
	if (!fork())
		_exit(getpid() == 1 ? 42 : 0);
	if (wait(&status) < 0)
		return 2;
	printf("unshare: 0; the child's wait status is %#x\n", status);
	return WIFEXITED(status) && WEXITSTATUS(status) == 42 ? 0 : 2;
}
