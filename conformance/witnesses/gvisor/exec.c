/*
 * What gVisor's exec makes of attributes. execve(2) says: an empty argv becomes one empty string;
 * queues of mq_overview(7) are closed; record locks are kept; a signal of a timer that is deleted
 * is not pending afterwards; a set-user-ID file gives its owner's id and clears the parent death
 * signal, and such a program can't be traced; the effective id stays and becomes the saved one.
 * With the argument "again" this program tells what it finds.
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char folder[] = "/tmp/witness-XXXXXX";

/* Runs this program again as a child that `prepare` has made ready: its exit status. */
static int again(const char *path, const char *what, int (*prepare)(void))
{
	char text[16];
	int status;

	if (!fork()) {
		snprintf(text, sizeof(text), "%d", prepare ? prepare() : 0);
		execl(path, self, "again", what, text, (char *)NULL);
		_exit(99);
	}
	wait(&status);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* A copy of this program that all may run, in a folder of its own. */
static const char *copy(mode_t mode)
{
	static char path[64];
	static char buffer[1 << 20];
	int from = open("/proc/self/exe", O_RDONLY), to;
	ssize_t length;

	if (!mkdtemp(folder) || chmod(folder, 0755))
		fail(folder);
	snprintf(path, sizeof(path), "%s/program", folder);
	to = open(path, O_WRONLY | O_CREAT, 0700);
	while ((length = read(from, buffer, sizeof(buffer))) > 0)
		write(to, buffer, length);
	if (fchmod(to, mode) || close(to) || close(from))
		fail(path);
	return path;
}

static int gone(int result)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/program", folder);
	unlink(path);
	rmdir(folder);
	return result;
}

static int empty_argv(void)
{
	int status;

	if (!fork()) {
		execve(self, (char *[]){NULL}, NULL);
		_exit(99);
	}
	wait(&status);
	return WEXITSTATUS(status) == 100;
}

static int open_queue(void)
{
	int queue = mq_open("/witness", O_CREAT | O_RDWR, 0600, NULL);

	mq_unlink("/witness");
	return queue;
}

static int queue_stays(void)
{
	return again(self, "is-open", open_queue) == 0;
}

/* The parent asks about the lock that its child took and brought through exec. */
static int lock_is_gone(void)
{
	struct flock lock = {.l_type = F_WRLCK};
	int fd = memfd_create("file", 0), ready[2];
	pid_t child;
	char byte;

	pipe(ready);
	child = fork();
	if (!child) {
		fcntl(fd, F_SETLK, &lock);
		dup2(ready[1], 1);
		execl(self, self, "again", "wait", (char *)NULL);
		_exit(99);
	}
	read(ready[0], &byte, 1);
	fcntl(fd, F_GETLK, &lock);
	kill(child, SIGKILL);
	return lock.l_type == F_UNLCK;
}

static int expired_timer(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct itimerspec soon = {.it_value = {0, 1000000}};
	sigset_t blocked, pending;
	timer_t timer;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	timer_create(CLOCK_MONOTONIC, &event, &timer);
	timer_settime(timer, 0, &soon, NULL);
	do
		sigpending(&pending);
	while (!sigismember(&pending, SIGUSR1));
	return 0;
}

static int timer_signal_stays(void)
{
	return again(self, "is-pending", expired_timer) == 0;
}

static int two_ids(void)
{
	return setresuid(1, 2, 3);
}

static int effective_id_is_lost(void)
{
	return again(self, "euid", two_ids) == 1;
}

static int be_a_user(void)
{
	prctl(PR_SET_PDEATHSIG, SIGUSR2);
	if (setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000))
		fail("setresuid");
	prctl(PR_SET_PDEATHSIG, SIGUSR2);
	return 0;
}

static int set_user_id_ignored(void)
{
	return gone(again(copy(04755), "euid", be_a_user)) == 1000 % 256;
}

static int death_signal_stays(void)
{
	return gone(again(copy(04755), "pdeathsig", be_a_user)) == SIGUSR2;
}

static int unreadable(void)
{
	return gone(again(copy(0111), "euid", be_a_user)) == 99;
}

/* A file that is open for writing is run, and one that is run is opened for writing. */
static int busy_files(void)
{
	const char *path = copy(0755);
	int writer = open(path, O_WRONLY), is_run = again(path, "euid", NULL) == 0;

	close(writer);
	return gone(is_run && again(path, "open-self", NULL) == 0);
}

static int asked(const char *what, int number)
{
	sigset_t pending;
	int signal = 0;

	if (!strcmp(what, "is-open"))
		return fcntl(number, F_GETFD) < 0;
	if (!strcmp(what, "is-pending"))
		return sigpending(&pending) || !sigismember(&pending, SIGUSR1);
	if (!strcmp(what, "pdeathsig"))
		return prctl(PR_GET_PDEATHSIG, &signal) ? 99 : signal;
	if (!strcmp(what, "open-self"))
		return open("/proc/self/exe", O_WRONLY) < 0;
	if (!strcmp(what, "wait")) {
		write(1, "x", 1);
		pause();
	}
	return geteuid() % 256;
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"empty-argv", empty_argv},
		{"message-queue", queue_stays},
		{"record-lock", lock_is_gone},
		{"timer-signal", timer_signal_stays},
		{"effective-id", effective_id_is_lost},
		{"set-user-id", set_user_id_ignored},
		{"death-signal", death_signal_stays},
		{"unreadable", unreadable},
		{"busy-files", busy_files},
		{0},
	};

	if (argc == 0)
		return 100;
	if (argc > 2 && !strcmp(argv[1], "again"))
		return asked(argv[2], argc > 3 ? atoi(argv[3]) : 0);
	return witness(facts, argc, argv);
}
