/*
 * execve(2) says: EPERM for a set-user-ID file on a nosuid mount, when the user is not the
 * superuser. Exit status 0: the file is run, as Linux does; 1: execve failed.
 */
#define _GNU_SOURCE
#include "exec_set_id.h"

#include <sched.h>
#include <sys/mount.h>

static void tell(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	if (!file || fputs(text, file) < 0 || fclose(file))
		fail(path);
}

static void map_self(uid_t user, gid_t group)
{
	char text[64];

	snprintf(text, sizeof(text), "%d %d 1", user, user);
	tell("/proc/self/uid_map", text);
	tell("/proc/self/setgroups", "deny");
	snprintf(text, sizeof(text), "%d %d 1", group, group);
	tell("/proc/self/gid_map", text);
}

int main(int argc, char **argv)
{
	uid_t user = geteuid();
	gid_t group = getegid();

	(void)argv;
	if (argc > 1) {
		printf("the file is run\n");
		return 0;
	}
	/* An ordinary user mounts in a user namespace, and is an ordinary user outside. */
	if (unshare(user == 0 ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER))
		fail("unshare");
	if (user != 0)
		map_self(user, group);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID, "mode=755"))
		fail("mount");
	copy_self("/tmp/program");
	be_a_user();
	return run("/tmp/program");
}
