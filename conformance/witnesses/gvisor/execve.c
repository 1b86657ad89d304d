/*
 * How gVisor's exec takes its arguments. execve(2) and execveat(2) say: EACCES for what is no
 * regular file; AT_EXECFN, and a script's name, is /dev/fd/N for a file that a descriptor names; in
 * a #! line a NUL ends the name, and trailing blanks are cut; E2BIG for a string of more than
 * 32 pages, and for more than a quarter of the stack's limit in all. With the argument "again" this
 * program tells what it was given by its exit status.
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char file[] = "/tmp/witness-XXXXXX";

static void new_file(const char *content, size_t size)
{
	int fd = mkstemp(file);

	if (fd < 0 || write(fd, content, size) != (ssize_t)size || fchmod(fd, 0755) || close(fd))
		fail(file);
}

/* The exit status of what is run, or 100 and the errno of its exec; 99 where it has no end. */
static int run(int dirfd, const char *path, char *const argv[], int flags)
{
	int status;
	pid_t child = fork();

	if (!child) {
		alarm(1);
		syscall(SYS_execveat, dirfd, path, argv, environ, flags);
		_exit(100 + errno);
	}
	waitpid(child, &status, 0);
	unlink(file);
	printf("wait status %#x\n", status);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

static int run_file(void)
{
	return run(AT_FDCWD, file, (char *[]){file, NULL}, 0);
}

static int eventfd_file(void)
{
	return run(eventfd(0, 0), "", (char *[]){"again", NULL}, AT_EMPTY_PATH) == 100 + ENODEV;
}

static int bound_socket(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};

	new_file("", 0);
	unlink(file);
	strcpy(name.sun_path, file);
	if (bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&name, sizeof(name)) ||
	    chmod(file, 0755))
		fail(file);
	return run_file() == 100 + ENXIO;
}

/* Its opening waits for a writer. */
static int fifo(void)
{
	new_file("", 0);
	unlink(file);
	if (mkfifo(file, 0755))
		fail(file);
	return run_file() == 99;
}

static int name_by_descriptor(void)
{
	char *argv[] = {"name", "again", "execfn", NULL};

	return run(open(self, O_PATH), "", argv, AT_EMPTY_PATH) == 1;
}

/* A script of this program as its interpreter, with what follows the name. */
static int run_script(const char *end, size_t size)
{
	char text[256];
	int length = snprintf(text, sizeof(text), "#!%s", self);

	memcpy(text + length, end, size);
	new_file(text, length + size);
	return run_file();
}

static int nul_in_script(void)
{
	return run_script("\0 again\n", 8) == 100 + EINVAL;
}

static int blanks_in_script(void)
{
	return run_script(" again \t \n", 10) == 2;
}

static char *filled(size_t size)
{
	char *text = malloc(size);

	memset(text, 'x', size);
	text[size - 1] = 0;
	return text;
}

static int long_string(void)
{
	return run(AT_FDCWD, self, (char *[]){"x", filled((32 << 12) + 1), NULL}, 0) ==
	       100 + ENAMETOOLONG;
}

static int many_strings(void)
{
	static char *argv[32] = {"x", "again", "execfn"};
	struct rlimit one_mib = {1 << 20, 1 << 20};

	for (int i = 3; i < 8; i++)
		argv[i] = filled(30 << 12);
	return setrlimit(RLIMIT_STACK, &one_mib) || run(AT_FDCWD, self, argv, 0) < 100;
}

static int tell(char **argv)
{
	if (!strcmp(argv[1], "again \t "))
		return 2;
	return strncmp((char *)getauxval(AT_EXECFN), "/dev/fd/", 8) != 0;
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"eventfd", eventfd_file},
		{"socket", bound_socket},
		{"fifo", fifo},
		{"name-by-descriptor", name_by_descriptor},
		{"nul-in-script", nul_in_script},
		{"blanks-in-script", blanks_in_script},
		{"long-string", long_string},
		{"many-strings", many_strings},
		{0},
	};

	if (argc > 1 && !strncmp(argv[1], "again", 5))
		return tell(argv);
	return witness(facts, argc, argv);
}
