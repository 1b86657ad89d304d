/*
 * system(3) says: if a child process could not be created, the return value is -1. Exit status 0:
 * it is as if the shell had ended with status 127, as glibc has it since it makes the child by
 * posix_spawn; 1: -1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOMEBODY 48157

int main(void)
{
	int result;

	if (!geteuid() && setresuid(SOMEBODY, SOMEBODY, SOMEBODY))
		return 2;
	if (setrlimit(RLIMIT_NPROC, &(struct rlimit){0, 0}))
		return 2;
	errno = 0;
	result = system("exit 3");
	printf("system: %#x, %s\n", result, strerror(errno));
	if (errno != EAGAIN)
		return 2;
	return !(result != -1 && WIFEXITED(result) && WEXITSTATUS(result) == 127);
}
