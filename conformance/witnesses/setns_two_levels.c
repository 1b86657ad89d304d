/*
 * pid_namespaces(7) says: the parent of a process is in the same PID namespace or in the immediate
 * parent namespace. Exit status 0: setns into a namespace two levels below makes a child there
 * whose parent is two levels above, as Linux does; 1: it can't be; 2: it could not be tried.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* How many pids /proc names for this process: one for each level below that of the mount. */
static int levels(void)
{
	FILE *status = fopen("/proc/self/status", "r");
	char line[256];
	int count = 0;

	while (status && fgets(line, sizeof(line), status)) {
		if (strncmp(line, "NSpid:", 6))
			continue;
		for (char *word = strtok(line + 6, " \t\n"); word; word = strtok(NULL, " \t\n"))
			count++;
	}
	return count;
}

/* A process two pid namespaces further down, which waits; its number as this one sees it. */
static int inner_process(pid_t *middle)
{
	char number[16] = "";
	int ends[2];

	if (pipe(ends) || unshare(CLONE_NEWPID))
		exit(2);
	*middle = fork();
	if (!*middle) {
		/* The mount of /proc is of the outermost namespace, and so is the number in it. */
		if (!unshare(CLONE_NEWPID) && !fork() &&
		    readlink("/proc/self", number, sizeof(number) - 1) > 0)
			write(ends[1], number, sizeof(number));
		pause();
	}
	if (read(ends[0], number, sizeof(number)) != sizeof(number))
		exit(2);
	return atoi(number);
}

int main(void)
{
	int outer = levels(), status = 0, joined;
	char path[64];
	pid_t middle, joiner;

	alarm(20);
	if (geteuid() && unshare(CLONE_NEWUSER))
		return 2;
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", inner_process(&middle));
	joined = setns(open(path, O_RDONLY), CLONE_NEWPID);
	joiner = fork();
	if (!joiner)
		_exit(!joined && levels() == outer + 2);
	waitpid(joiner, &status, 0);
	kill(middle, SIGKILL); /* with all that is below it */
	return WEXITSTATUS(status) ? 0 : 1;
}
