/*
 * QEMU's user emulation and namespaces: it doesn't know the requests of ioctl_ns(2), and since it
 * has a thread of its own in each process, none can change its time namespace
 * (linux-user/syscall.c).
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

static int requests(void)
{
	int fd = open("/proc/self/ns/uts", O_RDONLY);

	return fd >= 0 && ioctl(fd, NS_GET_NSTYPE) == -1 && errno == ENOSYS;
}

static int joining_a_time_namespace(void)
{
	return setns(open("/proc/self/ns/time", O_RDONLY), CLONE_NEWTIME) && errno == EUSERS;
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"requests", requests},
		{"joining-a-time-namespace", joining_a_time_namespace},
		{0},
	};

	return witness(facts, argc, argv);
}
