/*
 * unshare(2) says: CLONE_THREAD implies CLONE_VM, which a process that shares its address space may
 * not give. Exit status 0: a process that does may give CLONE_THREAD and not CLONE_VM, as on Linux;
 * 1: it may give neither.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char stack[1 << 16];
static int with_thread, with_vm; /* what errno said in the child */

static int sharer(void *nothing)
{
	(void)nothing;
	with_thread = unshare(CLONE_THREAD) ? errno : 0;
	with_vm = unshare(CLONE_VM) ? errno : 0;
	return 0;
}

int main(void)
{
	if (clone(sharer, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL) < 0 || wait(NULL) < 0)
		return 2;
	printf("CLONE_THREAD: %s; CLONE_VM: %s\n", strerror(with_thread), strerror(with_vm));
	if (with_vm != EINVAL)
		return 2;
	return with_thread == 0 ? 0 : with_thread == EINVAL ? 1 : 2;
}
