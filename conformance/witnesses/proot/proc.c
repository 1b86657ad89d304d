/*
 * What PRoot shows of programs. proc(5): exe of a program whose file was removed ends in (deleted),
 * auxv is what the program got; an open folder of who was waited for gives ESRCH. execve(2): a
 * set-user-ID program has its owner's effective id.
 */
#include "exec.h"

#include <signal.h>
#include <sys/auxv.h>

static int exe_of_removed(void)
{
	int result;

	new_folder();
	copy_self();
	result = run(path);
	return gone(result == 9);
}

/* In the copy: 9 where it knows its removed file by the name alone. */
static int removes_itself(void)
{
	char before[256] = "", after[256] = "";

	readlink("/proc/self/exe", before, sizeof(before) - 1);
	unlink(before);
	readlink("/proc/self/exe", after, sizeof(after) - 1);
	return strcmp(before, after) ? 0 : 9;
}

/* A file below the open folder of a process that was waited for. */
static int folder_of_ended(void)
{
	pid_t child = fork();
	int fd;

	if (!child)
		pause();
	snprintf(path, sizeof(path), "/proc/%d", child);
	fd = open(path, O_RDONLY | O_DIRECTORY);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return openat(fd, "stat", O_RDONLY) < 0 && errno == ENOENT;
}

static int auxv_in_proc(void)
{
	unsigned long pair[2];
	int fd = open("/proc/self/auxv", O_RDONLY);

	while (read(fd, pair, sizeof(pair)) == sizeof(pair) && pair[0])
		if (pair[0] == AT_ENTRY)
			return pair[1] != getauxval(AT_ENTRY);
	fail("AT_ENTRY");
}

/* In the copy: 9 where it has its caller's effective id, which is root's. */
static int set_user_id(void)
{
	int result;

	new_folder();
	copy_self();
	if (chown(path, 2000, 2000) || chmod(path, 04755))
		fail(path);
	result = run_as(NULL, path, (char *[]){"x", "id", NULL});
	return gone(result == 9);
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"exe-of-removed", exe_of_removed},
		{"folder-of-ended", folder_of_ended},
		{"auxv-in-proc", auxv_in_proc},
		{"set-user-id", set_user_id},
		{0},
	};

	if (argc > 1 && !strcmp(argv[1], "again"))
		return removes_itself();
	if (argc > 1 && !strcmp(argv[1], "id"))
		return geteuid() ? 0 : 9;
	return witness(facts, argc, argv);
}
