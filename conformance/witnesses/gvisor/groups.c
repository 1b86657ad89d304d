/*
 * gVisor's process groups. setpgid(2) says: a parent may not move a child that has called exec,
 * and nobody may move the leader of a session. kill(2) says: it succeeds where one of a group was
 * reached.
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* The child runs this program anew, which waits until it is killed. */
static int moves_who_has_execed(void)
{
	int gone[2], moved;
	pid_t child;

	if (pipe2(gone, O_CLOEXEC))
		fail("pipe2");
	child = fork();
	if (!child) {
		execl("/proc/self/exe", self, "wait", NULL);
		_exit(2);
	}
	close(gone[1]);
	read(gone[0], gone, 1); /* ends when the new image is there */
	moved = setpgid(child, child);
	printf("setpgid gives %d\n", moved);
	kill(child, SIGKILL);
	wait(NULL);
	return moved == 0;
}

static int waits(void)
{
	poll(NULL, 0, 10000);
	return 0;
}

static int moves_a_leader(void)
{
	int status;

	if (!fork()) {
		int ready[2], moved;
		char byte;
		pid_t member;

		setsid();
		if (pipe(ready))
			_exit(2);
		member = fork();
		if (!member) {
			setpgid(0, 0);
			write(ready[1], "", 1);
			waits();
			_exit(0);
		}
		read(ready[0], &byte, 1);
		moved = setpgid(0, member) == 0 || setpgid(0, 0) == 0;
		kill(member, SIGKILL);
		_exit(moved);
	}
	wait(&status);
	return WEXITSTATUS(status) == 1;
}

/*
 * A group has a process that the sender may signal and one that it may not. Which of the two comes
 * last is left to chance, so there are many tries.
 */
static int fails_though_one_was_reached(void)
{
	int ready[2], status, tries;
	char byte;
	pid_t leader;

	if (pipe(ready))
		fail("pipe");
	leader = fork();
	if (!leader) {
		setpgid(0, 0);
		signal(SIGUSR1, SIG_IGN);
		if (!fork() && setresuid(1000, 1000, 1000))
			_exit(2);
		write(ready[1], "", 1);
		waits();
		_exit(0);
	}
	read(ready[0], &byte, 1);
	read(ready[0], &byte, 1);
	if (!fork()) {
		if (setresuid(1000, 1000, 1000))
			_exit(2);
		for (tries = 0; tries < 1000; tries++)
			if (kill(-leader, SIGUSR1))
				_exit(1);
		_exit(0);
	}
	while (wait(&status) == leader)
		;
	kill(-leader, SIGKILL);
	return WEXITSTATUS(status) == 1;
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"after-exec", moves_who_has_execed},
		{"session-leader", moves_a_leader},
		{"one-of-a-group", fails_though_one_was_reached},
		{"wait", waits},
		{0},
	};

	return witness(facts, argc, argv);
}
