/*
 * wait(2), BUGS, says: on Linux, if infop is NULL, waitid succeeds and returns the process id of
 * the waited-for child. Exit status 0: it succeeds and returns 0, by the C library's function and
 * by the system call, as Linux does; 1: it returns the id, as the page says.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t ended_child(void)
{
	pid_t child = fork();

	if (!child)
		_exit(0);
	return child;
}

int main(void)
{
	pid_t child = ended_child();
	long by_call, by_function;

	by_call = syscall(SYS_waitid, P_PID, child, NULL, WEXITED, NULL);
	if (waitpid(child, NULL, WNOHANG) != -1)
		return 2;
	child = ended_child();
	by_function = waitid(P_PID, child, NULL, WEXITED);
	if (waitpid(child, NULL, WNOHANG) != -1)
		return 2;
	printf("system call: %ld, function: %ld, child: %d\n", by_call, by_function, child);
	return by_call || by_function;
}
