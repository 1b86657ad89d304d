/*
 * gVisor's clone. clone(2) says: with CLONE_PARENT the child is the caller's sibling, and the init
 * of a pid namespace is refused it; CLONE_NEWNS with CLONE_FS, and CLONE_NEWIPC with CLONE_SYSVSEM,
 * are refused; a new namespace needs CAP_SYS_ADMIN. Linux takes any number below 256 as exit
 * signal, and zeroes the word of CLONE_CHILD_CLEARTID only if the memory is shared.
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Gives what the child's exit status is, or -1 with errno where it can't be made. */
static int made(unsigned long flags, int (*in_child)(void))
{
	int status;
	long child = syscall(SYS_clone, flags, 0, 0, 0, 0);

	if (!child)
		_exit(in_child ? in_child() : 0);
	if (child < 0 || waitpid(child, &status, __WALL) != child)
		return -1;
	return WEXITSTATUS(status);
}

static pid_t maker;

static int is_makers_child(void)
{
	return getppid() == maker;
}

static int parent_flag(void)
{
	maker = getpid();
	return made(CLONE_PARENT | SIGCHLD, is_makers_child) == 1;
}

/* Its own child, whether or not it was asked to be a sibling. */
static int makes_a_sibling(void)
{
	return made(CLONE_PARENT | SIGCHLD, NULL) == 0;
}

static int parent_flag_of_init(void)
{
	return made(CLONE_NEWPID | SIGCHLD, makes_a_sibling) == 1;
}

static int parent_flag_with_newpid(void)
{
	return made(CLONE_PARENT | CLONE_NEWPID | SIGCHLD, NULL) == 0;
}

static int parent_flag_with_newuser(void)
{
	return made(CLONE_PARENT | CLONE_NEWUSER | SIGCHLD, NULL) == 0;
}

static int newns_with_fs(void)
{
	return made(CLONE_NEWNS | CLONE_FS | SIGCHLD, NULL) == 0;
}

static int newipc_with_sysvsem(void)
{
	return made(CLONE_NEWIPC | CLONE_SYSVSEM | SIGCHLD, NULL) == 0;
}

static int without_privilege(void)
{
	if (setresuid(1, 1, 1))
		fail("setresuid");
	return made(CLONE_NEWNS | SIGCHLD, NULL) == 0 && made(CLONE_NEWCGROUP | SIGCHLD, NULL) == 0;
}

static int exit_signal_65(void)
{
	return made(65, NULL) == -1 && errno == EINVAL;
}

static int cleartid_alone(void)
{
	int *word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	long child;

	*word = 77;
	child = syscall(SYS_clone, CLONE_CHILD_CLEARTID | SIGCHLD, 0, 0, word, 0);
	if (!child)
		_exit(0);
	waitpid(child, NULL, 0);
	return *word == 0;
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"parent", parent_flag},
		{"parent-of-init", parent_flag_of_init},
		{"parent-with-newpid", parent_flag_with_newpid},
		{"parent-with-newuser", parent_flag_with_newuser},
		{"newns-with-fs", newns_with_fs},
		{"newipc-with-sysvsem", newipc_with_sysvsem},
		{"namespaces-without-privilege", without_privilege},
		{"exit-signal-65", exit_signal_65},
		{"cleartid-alone", cleartid_alone},
		{0},
	};

	return witness(facts, argc, argv);
}
