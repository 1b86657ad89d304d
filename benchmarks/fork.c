/* The least that a process costs: fork, or vfork if that is the argument, _exit in the child, wait.
 * A small static program; then rounds.h. */

#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rounds.h"

static void see_end(pid_t child)
{
	if (child < 0 || waitpid(child, NULL, 0) != child)
		exit(1);
}

static void forks(void)
{
	pid_t child = fork();

	if (!child)
		_exit(0);
	see_end(child);
}

static void vforks(void)
{
	pid_t child = vfork();

	if (!child)
		_exit(0);
	see_end(child);
}

int main(int argc, char **argv)
{
	serve_rounds(argc > 1 && !strcmp(argv[1], "vfork") ? vforks : forks);
	return 0;
}
