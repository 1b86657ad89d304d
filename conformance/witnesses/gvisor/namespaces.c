/*
 * gVisor's namespaces. The kernel's pages say: a mount can be made private; an abstract socket name
 * belongs to one network namespace; two processes in one namespace have the same link below
 * /proc/PID/ns; a user namespace has /proc/PID/setgroups; 32 levels of them may be nested. unshare
 * refuses flags that it doesn't know, a mount namespace without privilege and a second pid
 * namespace; with one thread it takes CLONE_VM and CLONE_SIGHAND.
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int private_mounts(void)
{
	return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) && errno == EINVAL;
}

static int bind_abstract(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0witness"};

	return bind(socket(AF_UNIX, SOCK_DGRAM, 0), (struct sockaddr *)&name, sizeof(name));
}

static int abstract_names(void)
{
	if (bind_abstract() || unshare(CLONE_NEWNET))
		fail("a network namespace");
	return bind_abstract() != 0;
}

static int is_the_link_another(const char *path)
{
	char mine[64] = "", childs[64] = "";
	int ends[2];

	if (readlink(path, mine, 63) < 0 || pipe(ends))
		fail(path);
	if (!fork()) {
		readlink(path, childs, 63);
		write(ends[1], childs, 64);
		_exit(0);
	}
	read(ends[0], childs, 64);
	printf("parent %s, child %s\n", mine, childs);
	return strcmp(mine, childs) != 0;
}

static int pid_links(void)
{
	return is_the_link_another("/proc/self/ns/pid");
}

static int user_links(void)
{
	return is_the_link_another("/proc/self/ns/user");
}

static int no_setgroups_file(void)
{
	return access("/proc/self/setgroups", F_OK) && errno == ENOENT;
}

/* Level after level until one is refused: ENOSPC says that the limit is reached. */
static int nesting_ends_with_eperm(void)
{
	int levels = 0;

	while (levels < 40 && !unshare(CLONE_NEWUSER))
		levels++;
	printf("%d levels, then %s\n", levels, strerror(errno));
	return errno == EPERM;
}

static int unshare_takes_any_flag(void)
{
	return !syscall(SYS_unshare, CLONE_VFORK) && !syscall(SYS_unshare, 1L << 63);
}

static int unshare_without_privilege(void)
{
	if (setresuid(65534, 65534, 65534))
		fail("setresuid");
	return !unshare(CLONE_NEWNS);
}

static int second_pid_namespace(void)
{
	if (unshare(CLONE_NEWPID))
		fail("a pid namespace");
	return !unshare(CLONE_NEWPID);
}

static int flags_of_threads(void)
{
	return unshare(CLONE_VM) && errno == EINVAL && unshare(CLONE_SIGHAND) && errno == EINVAL;
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"private-mounts", private_mounts},
		{"abstract-names", abstract_names},
		{"pid-links", pid_links},
		{"user-links", user_links},
		{"no-setgroups-file", no_setgroups_file},
		{"nesting", nesting_ends_with_eperm},
		{"unknown-flags", unshare_takes_any_flag},
		{"unshare-without-privilege", unshare_without_privilege},
		{"second-pid-namespace", second_pid_namespace},
		{"flags-of-threads", flags_of_threads},
		{0},
	};

	return witness(facts, argc, argv);
}
