/*
 * QEMU's user emulation makes a process by fork and a thread by pthread_create, so it knows these
 * two sets of clone flags only (linux-user/syscall.c, do_fork). CLONE_VFORK and CLONE_VM with it
 * are dropped, CLONE_IO is ignored, CLONE_PARENT_SETTID is done by the child in its own memory.
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int *has_gone_on; /* is shared whatever the flags say */
static int *parent_word;

static long clone_with(unsigned long flags)
{
	return syscall(SYS_clone, flags, 0, parent_word, 0, 0);
}

/* Whether clone refuses all of these with EINVAL. */
static int all_refused(const unsigned long *sets)
{
	for (; *sets; sets++) {
		long child = clone_with(*sets);

		if (!child)
			_exit(0);
		printf("%#lx: %ld\n", *sets, child);
		if (child > 0 || errno != EINVAL)
			return 0;
	}
	return 1;
}

static int sharing_is_refused(void)
{
	return all_refused((unsigned long[]){
		CLONE_FILES | SIGCHLD,
		CLONE_FS | SIGCHLD,
		CLONE_SYSVSEM | SIGCHLD,
		CLONE_VM | SIGCHLD,
		CLONE_VM | CLONE_SIGHAND | SIGCHLD,
		CLONE_VM | CLONE_FILES | CLONE_FS | SIGCHLD,
		CLONE_VM | CLONE_SIGHAND | CLONE_THREAD,
		CLONE_PARENT | SIGCHLD,
		CLONE_PIDFD | SIGCHLD,
		0,
	});
}

static int namespaces_are_refused(void)
{
	return all_refused((unsigned long[]){
		CLONE_NEWNS | SIGCHLD,
		CLONE_NEWUTS | SIGCHLD,
		CLONE_NEWIPC | SIGCHLD,
		CLONE_NEWPID | SIGCHLD,
		CLONE_NEWNET | SIGCHLD,
		CLONE_NEWCGROUP | SIGCHLD,
		0,
	});
}

static int exit_signals_are_refused(void)
{
	signal(SIGUSR1, SIG_IGN); /* where a child can send it */
	return all_refused((unsigned long[]){SIGUSR1, 65, CLONE_CHILD_CLEARTID, 0});
}

/* A child that waits for a word of its maker, who should stand still until the child ends. */
static int makes_a_plain_fork(unsigned long flags)
{
	volatile int mine = 1;
	int from_maker[2];
	long child;

	pipe(from_maker);
	child = clone_with(flags);
	if (!child) {
		struct pollfd word = {from_maker[0], POLLIN, 0};

		mine = 2;
		*has_gone_on = poll(&word, 1, 300) == 1;
		_exit(0);
	}
	write(from_maker[1], "x", 1);
	waitpid(child, NULL, 0);
	return *has_gone_on && mine == 1;
}

static int vfork_is_fork(void)
{
	return makes_a_plain_fork(CLONE_VM | CLONE_VFORK | SIGCHLD);
}

static int vfork_without_memory(void)
{
	return makes_a_plain_fork(CLONE_VFORK | SIGCHLD);
}

static int parent_tid_in_child(void)
{
	static int word = 77;
	long child;

	parent_word = &word;
	child = clone_with(CLONE_PARENT_SETTID | SIGCHLD);
	if (!child)
		_exit(0);
	waitpid(child, NULL, 0);
	return word == 77;
}

/* 1: this process; 2 << 13: best effort */
static int io_priority_apart(void)
{
	long child;

	syscall(SYS_ioprio_set, 1, 0, 2 << 13);
	child = clone_with(CLONE_IO | SIGCHLD);
	if (!child) {
		syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 7);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	return syscall(SYS_ioprio_get, 1, 0) == 2 << 13;
}

#ifdef __x86_64__
/* An address that no user has: Linux refuses it. */
static int any_thread_pointer(void)
{
	long child = syscall(SYS_clone, CLONE_SETTLS | SIGCHLD, 0, 0, 0, 1UL << 63);

	if (!child)
		__asm__("mov $231, %eax; xor %edi, %edi; syscall");
	return child > 0;
}
#endif

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"sharing", sharing_is_refused},
		{"namespaces", namespaces_are_refused},
		{"exit-signals", exit_signals_are_refused},
		{"vfork", vfork_is_fork},
		{"vfork-without-memory", vfork_without_memory},
		{"parent-tid", parent_tid_in_child},
		{"io-priority", io_priority_apart},
#ifdef __x86_64__
		{"thread-pointer", any_thread_pointer},
#endif
		{0},
	};

	has_gone_on = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return witness(facts, argc, argv);
}
