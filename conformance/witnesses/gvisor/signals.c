/*
 * vfork(2) says of gVisor as of any kernel: a handled signal to the suspended parent is delivered
 * after the child has let go. The end of a robust futex's owner wakes its waiter. Exec cancels
 * requests of io_uring that are in progress.
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t count;

static void handler(int signal)
{
	(void)signal;
	count++;
}

/* The call is made as such: the C library's function may run more code behind it. */
static int late_after_vfork(void)
{
	int status, at_once;

	signal(SIGUSR1, handler);
	if (!vfork()) {
		kill(getppid(), SIGUSR1);
		_exit(0);
	}
	at_once = count;
	for (status = 0; status < 1000 && !count; status++)
		getppid();
	printf("%d at once, %d after %d calls\n", at_once, count, status);
	return at_once == 0;
}

/* A poll of an empty pipe is in progress for ever; gVisor completes it at once. */
static int poll_by_io_uring(void)
{
	struct io_uring_params told = {0};
	int ends[2], ring = syscall(SYS_io_uring_setup, 1, &told);
	struct io_uring_sqe *request;
	char *queues;

	if (ring < 0 || pipe(ends))
		fail("io_uring_setup");
	queues = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	request = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	if (queues == MAP_FAILED || request == MAP_FAILED)
		fail("mmap");
	request->opcode = IORING_OP_POLL_ADD;
	request->fd = ends[0];
	request->poll32_events = POLLIN;
	*(unsigned *)(queues + told.sq_off.tail) = 1;
	syscall(SYS_io_uring_enter, ring, 1, 0, 0, NULL, 0);
	return *(unsigned *)(queues + told.cq_off.tail) == 1;
}

/* The owner of a robust futex ends, who has an id with bit 7 set: that is FUTEX_PRIVATE_FLAG in an
 * operation, and nothing in an id. */
static int waiter_sleeps_on(void)
{
	const struct timespec moment = {0, 100000000}, longest = {1, 0};
	struct {
		void *entry;
		long offset;
		void *pending, *next;
		int word;
	} *list = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t owner;
	long woken;

	while (owner = fork(), owner && !(owner & 1 << 7))
		waitpid(owner, NULL, 0);
	if (!owner) {
		if (!(getpid() & 1 << 7))
			_exit(0);
		list->entry = &list->next;
		list->next = list;
		list->offset = (char *)&list->word - (char *)&list->next;
		list->word = getpid() | FUTEX_WAITERS;
		syscall(SYS_set_robust_list, list, 3 * sizeof(long));
		nanosleep(&moment, NULL);
		_exit(0);
	}
	while (!*(volatile int *)&list->word)
		;
	woken = syscall(SYS_futex, &list->word, FUTEX_WAIT, owner | FUTEX_WAITERS, &longest, 0, 0);
	printf("%ld, %s, word %#x\n", woken, strerror(errno), list->word);
	return woken < 0 && errno == ETIMEDOUT;
}

/*
 * The first process of a new pid namespace has no handler; its child sends it a signal. It has a
 * session of its own, for gVisor counts its end for a group that has others outside.
 */
static int init_without_handler(void)
{
	int status;

	if (unshare(CLONE_NEWPID))
		fail("unshare");
	if (!fork()) {
		setsid();
		if (!fork()) {
			kill(1, SIGTERM);
			_exit(0);
		}
		wait(NULL);
		_exit(0);
	}
	wait(&status);
	printf("status %#x\n", status);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM;
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"late-after-vfork", late_after_vfork},
		{"poll-by-io-uring", poll_by_io_uring},
		{"robust-futex", waiter_sleeps_on},
		{"init-without-handler", init_without_handler},
		{0},
	};

	return witness(facts, argc, argv);
}
