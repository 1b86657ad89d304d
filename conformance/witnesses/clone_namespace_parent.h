/*
 * What the witnesses about CLONE_PARENT with a new namespace share: a middle process asks for a
 * child by clone with flags, and the first process looks whose child that is.
 */
#ifndef CLONE_NAMESPACE_PARENT_H
#define CLONE_NAMESPACE_PARENT_H

#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* 0: the child is made and its maker's parent can wait for it; 1: EINVAL; 2: something else. */
static int sibling_with(unsigned long flags)
{
	int status, siblings = 0;
	pid_t middle = fork();

	if (!middle) {
		long child = syscall(SYS_clone, flags | CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);

		if (!child)
			_exit(42);
		printf("clone: %s\n", child < 0 ? strerror(errno) : "a child");
		fflush(stdout);
		_exit(child > 0 ? 0 : errno == EINVAL ? 1 : 2);
	}
	if (waitpid(middle, &status, 0) != middle || !WIFEXITED(status))
		return 2;
	if (WEXITSTATUS(status))
		return WEXITSTATUS(status);
	while (waitpid(-1, &status, 0) > 0)
		siblings += WIFEXITED(status) && WEXITSTATUS(status) == 42;
	return siblings == 1 ? 0 : 2;
}

#endif
