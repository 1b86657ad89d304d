/*
 * execve(2) says: EINVAL when an ELF file has more than one PT_INTERP. Here the first names a
 * missing file and the second this program. Exit status 0: the first one counts, as in Linux, so
 * ENOENT; 1: EINVAL.
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
	make_program("program", "/no/such/file", "/proc/self/exe");
	execl("program", "program", (char *)NULL);
	seen = errno;
	printf("execve: %s\n", strerror(seen));
	unlink("program");
	rmdir(folder);
	return seen == EINVAL;
}
