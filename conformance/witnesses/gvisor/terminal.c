/*
 * gVisor's job control. The pages say: /proc/PID/stat names the controlling terminal; the end of a
 * session's leader takes the terminal away and sends SIGHUP to the foreground; a stopped group that
 * becomes orphaned gets SIGHUP and SIGCONT; a process in the background that reads the terminal is
 * stopped; /dev/tty is the controlling terminal.
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const struct timespec moment = {0, 300000000};

/* The calling process leads a session with a terminal of its own from here on. */
static int new_terminal(int *master)
{
	int slave;

	*master = posix_openpt(O_RDWR | O_NOCTTY);
	if (*master < 0 || grantpt(*master) || unlockpt(*master))
		fail("posix_openpt");
	setsid();
	slave = open(ptsname(*master), O_RDWR | O_NOCTTY);
	if (slave < 0 || ioctl(slave, TIOCSCTTY, 0))
		fail("TIOCSCTTY");
	return slave;
}

static int in_child(int (*body)(void))
{
	int status;

	if (!fork())
		_exit(body());
	wait(&status);
	return WEXITSTATUS(status);
}

static int stat_of_leader(void)
{
	FILE *file = fopen("/proc/self/stat", "r");
	int master, number = -1;

	fclose(file);
	new_terminal(&master);
	file = fopen("/proc/self/stat", "r");
	fscanf(file, "%*d (%*[^)]) %*c %*d %*d %*d %d", &number);
	printf("tty_nr %d\n", number);
	return number == 0;
}

static int no_terminal_in_stat(void)
{
	return in_child(stat_of_leader);
}

static int tty_of_leader(void)
{
	int master, tty;

	new_terminal(&master);
	tty = open("/dev/tty", O_RDWR);
	printf("open of /dev/tty: %s\n", tty < 0 ? strerror(errno) : "success");
	return tty < 0 && errno == EIO;
}

static int no_dev_tty(void)
{
	return in_child(tty_of_leader);
}

/* A child in the foreground waits for SIGHUP, at most a moment after the leader's end. */
static int no_hangup(void)
{
	int end[2], master;
	sigset_t hangup;
	char seen = 0;

	pipe(end);
	sigemptyset(&hangup);
	sigaddset(&hangup, SIGHUP);
	sigprocmask(SIG_BLOCK, &hangup, NULL);
	if (!fork()) {
		new_terminal(&master);
		if (!fork()) {
			seen = sigtimedwait(&hangup, NULL, &moment) == SIGHUP ? 'y' : 'n';
			write(end[1], &seen, 1);
			_exit(0);
		}
		_exit(0);
	}
	wait(NULL);
	read(end[0], &seen, 1);
	return seen == 'n';
}

/* The member of another group stops; with the end of its parent its group is an orphan. */
static int orphan_in_this_session(void)
{
	int end[2];
	pid_t middle, member;

	setsid(); /* whoever gets the orphan is in another one */
	pipe(end);
	middle = fork();
	if (!middle) {
		member = fork();
		if (!member) {
			setpgid(0, 0);
			signal(SIGHUP, SIG_IGN);
			raise(SIGSTOP);
			write(end[1], "x", 1);
			_exit(0);
		}
		waitpid(member, NULL, WUNTRACED);
		_exit(0);
	}
	waitpid(middle, NULL, 0);
	return poll(&(struct pollfd){end[0], POLLIN, 0}, 1, 300) == 0;
}

static int no_continuation(void)
{
	return in_child(orphan_in_this_session);
}

/* Ends the wait. */
static void on_alarm(int signal)
{
	(void)signal;
}

static int reader_in_background(void)
{
	int master, slave = new_terminal(&master), status;
	char byte;
	pid_t child = fork();

	if (!child) {
		setpgid(0, 0);
		read(slave, &byte, 1);
		_exit(0);
	}
	sigaction(SIGALRM, &(struct sigaction){.sa_handler = on_alarm}, NULL);
	alarm(1);
	return waitpid(child, &status, WUNTRACED) != child || !WIFSTOPPED(status);
}

static int no_stop_of_readers(void)
{
	return in_child(reader_in_background);
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal)
{
	interrupted = signal;
}

static int key_in_foreground(void)
{
	int master, slave = new_terminal(&master);

	sigaction(SIGINT, &(struct sigaction){.sa_handler = on_interrupt}, NULL);
	tcsetpgrp(slave, getpgrp());
	write(master, "\3", 1);
	nanosleep(&moment, NULL);
	return !interrupted;
}

static int no_interrupt_by_key(void)
{
	return in_child(key_in_foreground);
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"tty-in-stat", no_terminal_in_stat},
		{"dev-tty", no_dev_tty},
		{"hangup", no_hangup},
		{"orphaned-group", no_continuation},
		{"background-reader", no_stop_of_readers},
		{"interrupt-key", no_interrupt_by_key},
		{0},
	};

	return witness(facts, argc, argv);
}
