/*
 * What the witnesses of PRoot's execve share: a folder with a program or a script, and a child that
 * runs it.
 */
#ifndef PROOT_EXEC_H
#define PROOT_EXEC_H

#define _GNU_SOURCE
#include "../facts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/witness-XXXXXX";
static char path[64]; /* of a copy of this program, or of a script, in the folder */

static void new_folder(void)
{
	if (!mkdtemp(folder) || chmod(folder, 0755))
		fail(folder);
	snprintf(path, sizeof(path), "%s/program", folder);
}

static void copy_self(void)
{
	static char buffer[1 << 20];
	int from = open("/proc/self/exe", O_RDONLY), to = open(path, O_WRONLY | O_CREAT, 0755);
	ssize_t length;

	while ((length = read(from, buffer, sizeof(buffer))) > 0)
		write(to, buffer, length);
	if (fchmod(to, 0755) || close(to) || close(from))
		fail(path);
}

__attribute__((unused)) static void write_script(const char *text, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755);

	if (fd < 0 || write(fd, text, size) != (ssize_t)size || close(fd))
		fail(path);
}

static int gone(int result)
{
	unlink(path);
	rmdir(folder);
	return result;
}

/* What a child makes of an exec: the new image's exit status, or 100 and the errno. */
static int run_as(void (*prepare)(void), const char *name, char *const argv[])
{
	int status;

	if (!fork()) {
		if (prepare)
			prepare();
		execv(name, argv);
		_exit(100 + errno);
	}
	wait(&status);
	printf("wait status %#x\n", status);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int run(const char *name)
{
	return run_as(NULL, name, (char *[]){"x", "again", NULL});
}

#endif
