/*
 * pidfd_open(2) says: without PIDFD_THREAD the pid must be that of a process, and EINVAL tells that
 * a pid is not valid. Exit status 0: the id of a thread that is no leader gives ENOENT, which the
 * page does not list; 1: EINVAL.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int seen; /* the error, 0 for none */

static void *opens_itself(void *argument)
{
	(void)argument;
	if (syscall(SYS_pidfd_open, syscall(SYS_gettid), 0) < 0)
		seen = errno;
	return NULL;
}

int main(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, opens_itself, NULL) || pthread_join(thread, NULL))
		return 2;
	printf("pidfd_open: %s\n", seen ? strerror(seen) : "a descriptor");
	if (seen == ENOENT)
		return 0;
	return seen == EINVAL ? 1 : 2;
}
