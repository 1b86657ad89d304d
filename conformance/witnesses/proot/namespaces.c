/*
 * PRoot and namespaces: it follows links and looks for folders by itself, where it is. So the links
 * of /proc/PID/ns lead nowhere, what is mounted in another mount namespace is not found, a working
 * directory is no more than a name, and /proc/thread-self is a thread of PRoot.
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/witness-XXXXXX";

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	int written = write(fd, text, strlen(text)) > 0;

	close(fd);
	return written;
}

/* A file system in a mount namespace of one's own. */
static void mount_something(void)
{
	char user[32], group[32];

	snprintf(user, sizeof(user), "0 %d 1", geteuid());
	snprintf(group, sizeof(group), "0 %d 1", getegid());
	if (!mkdtemp(folder) || unshare(CLONE_NEWUSER | CLONE_NEWNS))
		fail("a mount namespace");
	if (!put("/proc/self/uid_map", user) || !put("/proc/self/setgroups", "deny") ||
	    !put("/proc/self/gid_map", group))
		fail("the maps");
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", folder, "tmpfs", 0, NULL))
		fail("mount");
}

static int links(void)
{
	char link[64];

	return readlink("/proc/self/ns/uts", link, sizeof(link)) > 0 &&
	       open("/proc/self/ns/uts", O_RDONLY) < 0 && errno == ENOENT;
}

static int mounts(void)
{
	char outer[64], inner[64];
	int is_there;

	mount_something();
	snprintf(outer, sizeof(outer), "%s/a", folder);
	snprintf(inner, sizeof(inner), "%s/a/b", folder);
	if (mkdir(outer, 0700))
		fail("mkdir");
	is_there = mkdir(inner, 0700) && errno == ENOENT;
	umount2(folder, MNT_DETACH);
	rmdir(folder);
	return is_there;
}

static int working_directory(void)
{
	int is_there;

	mount_something();
	if (chdir(folder))
		fail("chdir");
	is_there = !umount2(folder, 0);
	umount2(folder, MNT_DETACH);
	rmdir(folder);
	return is_there;
}

static int thread_self(void)
{
	char thread[64] = "", process[64] = "";

	if (unshare(CLONE_NEWUSER))
		fail("a user namespace");
	readlink("/proc/thread-self/ns/user", thread, sizeof(thread) - 1);
	readlink("/proc/self/ns/user", process, sizeof(process) - 1);
	printf("thread '%s', process '%s'\n", thread, process);
	return strcmp(thread, process) != 0;
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"links", links},
		{"mounts", mounts},
		{"working-directory", working_directory},
		{"thread-self", thread_self},
		{0},
	};

	return witness(facts, argc, argv);
}
