/*
 * What the pages on namespaces say and Linux does not do. namespaces(7): before the first child
 * readlink of pid_for_children gives an empty buffer. user_namespaces(7): to write a map takes
 * CAP_SETUID in the namespace. mount_namespaces(7): a copied mount keeps its propagation type, and
 * so an unbindable one can't be bound in the new namespace either.
 */
#define _GNU_SOURCE
#include "facts.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	int written = write(fd, text, strlen(text)) > 0;

	close(fd);
	return written;
}

static int pid_for_children(void)
{
	char link[64];

	if (unshare(geteuid() ? CLONE_NEWUSER | CLONE_NEWPID : CLONE_NEWPID))
		fail("a pid namespace");
	return readlink("/proc/self/ns/pid_for_children", link, sizeof(link)) < 0 &&
	       errno == ENOENT;
}

static int map_without_setuid(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	char line[32];

	snprintf(line, sizeof(line), "0 %d 1", geteuid());
	if (unshare(CLONE_NEWUSER) || syscall(SYS_capget, &head, data))
		fail("a user namespace");
	data[0].effective = data[0].permitted &= ~(1u << CAP_SETUID);
	if (syscall(SYS_capset, &head, data))
		fail("capset");
	return put("/proc/self/uid_map", line);
}

/* A mount is bound in a copy of the list in which it is unbindable. */
static int unbindable_copy(void)
{
	char user[32], group[32];
	int as_user = geteuid() != 0;

	snprintf(user, sizeof(user), "0 %d 1", geteuid());
	snprintf(group, sizeof(group), "0 %d 1", getegid());
	if (unshare(as_user ? CLONE_NEWUSER | CLONE_NEWNS : CLONE_NEWNS))
		fail("a mount namespace");
	if (as_user && (!put("/proc/self/uid_map", user) || !put("/proc/self/setgroups", "deny") ||
			!put("/proc/self/gid_map", group)))
		fail("the maps");
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/tmp", "tmpfs", 0, NULL) || mkdir("/tmp/a", 0700) ||
	    mkdir("/tmp/b", 0700) || mount("none", "/tmp/a", "tmpfs", 0, NULL) ||
	    mount(NULL, "/tmp/a", NULL, MS_UNBINDABLE, NULL))
		fail("the mounts");
	if (!mount("/tmp/a", "/tmp/b", NULL, MS_BIND, NULL) || unshare(CLONE_NEWNS))
		fail("an unbindable mount");
	return !mount("/tmp/a", "/tmp/b", NULL, MS_BIND, NULL);
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"pid-for-children", pid_for_children},
		{"map-without-setuid", map_without_setuid},
		{"unbindable-copy", unbindable_copy},
		{0},
	};

	return witness(facts, argc, argv);
}
