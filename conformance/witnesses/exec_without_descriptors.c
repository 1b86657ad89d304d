/*
 * execve(2) says: EMFILE when the process's limit of open descriptors is reached. With
 * RLIMIT_NOFILE 0 this program execs itself; link it statically, for a dynamic loader needs
 * descriptors. Exit status 0: the new image ran, as Linux does; 1: execve failed, as the page says.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct rlimit none = {0, 0};

	if (argc > 1) {
		printf("the new image runs\n");
		return 0;
	}
	if (setrlimit(RLIMIT_NOFILE, &none)) {
		perror("setrlimit");
		return 2;
	}
	execl(argv[0], argv[0], "again", (char *)NULL);
	printf("execve: %s\n", strerror(errno));
	return 1;
}
