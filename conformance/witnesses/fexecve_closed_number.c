/*
 * fexecve(3), ERRORS, says: EINVAL when fd is not a valid file descriptor. Exit status 0: a number
 * of no descriptor gives EBADF, which is what execveat gives, and only a negative one EINVAL, as
 * the C library does; 1: both give EINVAL, as the page says.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static int error_of(int fd)
{
	char *argv[] = {"zero", NULL}, *envp[] = {NULL};

	fexecve(fd, argv, envp);
	return errno;
}

int main(void)
{
	int closed, negative;

	close(99);
	closed = error_of(99);
	negative = error_of(-1);
	printf("99: errno %d, -1: errno %d\n", closed, negative);
	if (closed == EBADF && negative == EINVAL)
		return 0;
	return closed == EINVAL && negative == EINVAL ? 1 : 2;
}
