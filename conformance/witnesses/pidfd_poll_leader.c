/*
 * pidfd_open(2) says: with PIDFD_THREAD the descriptor becomes readable when the thread becomes a
 * zombie, even if there are other threads. Exit status 0: it does not for the leader, whose
 * descriptor tells of the last thread's end, as on Linux 6.15 and later; 1: it does.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PIDFD_THREAD O_EXCL

static void *idle(void *nothing)
{
	pause();
	return nothing;
}

static char state(pid_t process)
{
	char path[32], stat[256] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", process);
	file = fopen(path, "r");
	if (!file || !fgets(stat, sizeof(stat), file) || !strrchr(stat, ')'))
		exit(2);
	fclose(file);
	return strrchr(stat, ')')[2];
}

int main(void)
{
	const struct timespec moment = {.tv_nsec = 1000000};
	struct pollfd leader = {.events = POLLIN};
	pid_t child = fork();
	pthread_t thread;
	int is_told;

	if (!child) {
		if (pthread_create(&thread, NULL, idle, NULL))
			_exit(2);
		syscall(SYS_exit, 0);
	}
	leader.fd = syscall(SYS_pidfd_open, child, PIDFD_THREAD);
	if (leader.fd < 0)
		return 2;
	while (state(child) != 'Z')
		nanosleep(&moment, NULL);
	is_told = poll(&leader, 1, 0);
	kill(child, SIGKILL);
	poll(&leader, 1, -1);
	waitpid(child, NULL, 0);
	printf("poll: %d while a thread lived, %#x after its end\n", is_told, leader.revents);
	return is_told;
}
