/*
 * gVisor's user namespaces and what it has of setns, ioctl_ns and /proc for namespaces. The
 * kernel's pages say: a map is decimal, of lines with three fields each, which neither overlap nor
 * are empty, and is not written by pwrite; of groups it takes deny before; without maps setgroups
 * is refused; a device is made only in the first user namespace, and inner root mounts a tmpfs;
 * setns says EINVAL for what is no namespace.
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	int written = write(fd, text, strlen(text)) > 0;

	close(fd);
	return written;
}

static void enter(void)
{
	if (unshare(CLONE_NEWUSER))
		fail("a user namespace");
}

static int is_missing(const char *path)
{
	return access(path, F_OK) && errno == ENOENT;
}

static int no_links(void)
{
	return is_missing("/proc/self/ns/uts") && is_missing("/proc/self/ns/time");
}

static int no_offsets(void)
{
	return is_missing("/proc/self/timens_offsets");
}

static int no_projects(void)
{
	return is_missing("/proc/self/projid_map");
}

static int no_limits(void)
{
	return is_missing("/proc/sys/user/max_uts_namespaces");
}

static int no_queues(void)
{
	return is_missing("/proc/sysvipc/msg");
}

static int no_time_to_live(void)
{
	return is_missing("/proc/sys/net/ipv4/ip_default_ttl");
}

static int no_overflow_ids(void)
{
	return is_missing("/proc/sys/kernel/overflowuid");
}

static int inode_of_a_link(void)
{
	char text[64], link[64] = "";
	struct stat found;

	if (stat("/proc/self/ns/user", &found))
		fail("stat");
	snprintf(text, sizeof(text), "user:[%lu]", (unsigned long)found.st_ino);
	readlink("/proc/self/ns/user", link, sizeof(link) - 1);
	return strcmp(text, link) != 0;
}

static int no_parent_request(void)
{
	int fd = open("/proc/self/ns/user", O_RDONLY);

	return fd >= 0 && ioctl(fd, NS_GET_PARENT) == -1 && errno == ENOTTY;
}

static int setns_is_not_supported(void)
{
	return setns(open("/dev/null", O_RDONLY), 0) && errno == EOPNOTSUPP;
}

static int ambient(void)
{
	return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 13, 0, 0) == -1 && errno == EINVAL;
}

static int octal_map(void)
{
	unsigned int inside = 0;
	FILE *map;

	enter();
	if (!put("/proc/self/uid_map", "010 0 1"))
		fail("uid_map");
	map = fopen("/proc/self/uid_map", "r");
	return map && fscanf(map, "%u", &inside) == 1 && inside == 8;
}

static int errors_of_maps(void)
{
	int fd;

	enter();
	fd = open("/proc/self/uid_map", O_WRONLY);
	return write(fd, "0 0 0", 5) < 0 && errno == EPERM;
}

static int fields_of_maps(void)
{
	enter();
	return put("/proc/self/uid_map", "0x10 0 1 7");
}

static int pwrite_of_maps(void)
{
	enter();
	return pwrite(open("/proc/self/uid_map", O_WRONLY), "0 0 1", 5, 0) == 5;
}

/* The parent has a user namespace of its own with other ids, and reads the map of its child. */
static int map_for_another(void)
{
	int ready[2], go[2];
	unsigned int outside = 0;
	char path[64], byte;
	pid_t child;
	FILE *map;

	if (pipe(ready) || pipe(go))
		fail("pipe");
	child = fork();
	if (!child) {
		enter();
		put("/proc/self/uid_map", "7 0 1");
		write(ready[1], "x", 1);
		_exit(read(go[0], &byte, 1) != 1);
	}
	enter();
	if (!put("/proc/self/uid_map", "5 0 1") || read(ready[0], &byte, 1) != 1)
		fail("the maps");
	snprintf(path, sizeof(path), "/proc/%d/uid_map", child);
	map = fopen(path, "r");
	if (!map || fscanf(map, "%*u %u", &outside) != 1)
		fail("the child's map");
	write(go[1], "x", 1);
	return outside == 0;
}

static int groups_without_deny(void)
{
	if (setresuid(65534, 65534, 65534) || prctl(PR_SET_DUMPABLE, 1))
		fail("setresuid");
	enter();
	return put("/proc/self/gid_map", "0 0 1");
}

static int setgroups_without_map(void)
{
	enter();
	return !setgroups(0, NULL);
}

static int device(void)
{
	int is_there;

	enter();
	put("/proc/self/setgroups", "deny");
	if (!put("/proc/self/uid_map", "0 0 1") || !put("/proc/self/gid_map", "0 0 1"))
		fail("the maps");
	is_there = !mknod("/tmp/witness-null", S_IFCHR | 0600, makedev(1, 3));
	unlink("/tmp/witness-null");
	return is_there;
}

static int inner_mount(void)
{
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
		fail("a mount namespace");
	put("/proc/self/setgroups", "deny");
	if (!put("/proc/self/uid_map", "0 0 1") || !put("/proc/self/gid_map", "0 0 1"))
		fail("the maps");
	return mount("none", "/tmp", "tmpfs", 0, NULL) && errno == EPERM;
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"no-links", no_links},
		{"no-offsets", no_offsets},
		{"no-projects", no_projects},
		{"no-limits", no_limits},
		{"no-queues", no_queues},
		{"no-time-to-live", no_time_to_live},
		{"no-overflow-ids", no_overflow_ids},
		{"inode-of-a-link", inode_of_a_link},
		{"no-parent-request", no_parent_request},
		{"setns", setns_is_not_supported},
		{"ambient", ambient},
		{"octal-map", octal_map},
		{"errors-of-maps", errors_of_maps},
		{"fields-of-maps", fields_of_maps},
		{"pwrite-of-maps", pwrite_of_maps},
		{"map-for-another", map_for_another},
		{"groups-without-deny", groups_without_deny},
		{"setgroups-without-map", setgroups_without_map},
		{"device", device},
		{"inner-mount", inner_mount},
		{0},
	};

	return witness(facts, argc, argv);
}
