/*
 * Runs a set-user-ID copy of this program as a user who is not the superuser.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void fail(const char *what)
{
	perror(what);
	exit(2);
}

/* The copy belongs to the effective user. Whoever runs it needs to see no more than its exit
 * status, 0. */
static void copy_self(const char *path)
{
	char buffer[4096];
	int from = open("/proc/self/exe", O_RDONLY);
	int to = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
	ssize_t length;

	if (from < 0 || to < 0)
		fail(path);
	while ((length = read(from, buffer, sizeof(buffer))) > 0)
		if (write(to, buffer, length) != length)
			fail(path);
	if (fchmod(to, 04755) || close(to) || close(from))
		fail(path);
}

/* Root gives its privilege up; anybody else has none. */
static void be_a_user(void)
{
	if (geteuid() == 0 && (setgid(65534) || setuid(65534)))
		fail("setuid");
}

/* Gives the exit status of the program, or 1 where it was refused. */
static int run(const char *path)
{
	execl(path, path, "again", (char *)NULL);
	printf("execve: %s\n", strerror(errno));
	return 1;
}
