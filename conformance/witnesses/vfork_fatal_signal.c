/*
 * vfork(2) says: signals sent to the parent arrive after the child releases the parent's memory.
 * Here SIGTERM, with its default action, is sent to a process that is suspended in vfork while its
 * child lives on, and the process is waited for. Exit status 0: it ended although the child had not
 * let go, as Linux does; 1: it did not while the child lived.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	int to_child[2], from_child[2], status;
	char byte;
	pid_t middle;

	if (pipe(to_child) || pipe(from_child))
		return 2;
	middle = fork();
	if (middle == 0) {
		if (vfork() == 0) {
			/* The vfork child says that it runs, then lives until its input ends. */
			close(to_child[1]);
			write(from_child[1], "x", 1);
			read(to_child[0], &byte, 1);
			_exit(0);
		}
		_exit(1);
	}
	close(to_child[0]);
	if (read(from_child[0], &byte, 1) != 1)
		return 2;
	kill(middle, SIGTERM);
	alarm(5); /* if the signal waits for the child, so does this */
	if (waitpid(middle, &status, 0) == middle && WIFSIGNALED(status)) {
		printf("the suspended parent ended by signal %d while its child lived\n",
		       WTERMSIG(status));
		return 0;
	}
	printf("wait status %#x\n", status);
	return 1;
}
