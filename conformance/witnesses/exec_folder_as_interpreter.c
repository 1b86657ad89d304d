/*
 * execve(2) says: EISDIR when an ELF interpreter is a directory. Exit status 0: another errno, as
 * Linux gives; 1: EISDIR.
 */
#include "exec_elf_interpreters.h"

#include <errno.h>
#include <unistd.h>

int main(void)
{
	char folder[] = "/tmp/witness-XXXXXX";
	int seen;

	if (!mkdtemp(folder) || chdir(folder)) {
		perror(folder);
		return 2;
	}
	make_program("program", "/", NULL);
	execl("program", "program", (char *)NULL);
	seen = errno;
	printf("execve: %s\n", strerror(seen));
	unlink("program");
	rmdir(folder);
	return seen == EISDIR;
}
