/*
 * execve(2) says: EPERM for a set-user-ID file when the process is traced and the user is not the
 * superuser. Exit status 0: the file is run, as Linux does; 1: execve failed.
 */
#include "exec_set_id.h"

#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	char folder[] = "/tmp/witness-XXXXXX";
	char program[64];
	int status;
	pid_t child;

	(void)argv;
	if (argc > 1) {
		printf("the file is run\n");
		return 0;
	}
	if (!mkdtemp(folder) || chmod(folder, 0755))
		fail(folder);
	snprintf(program, sizeof(program), "%s/program", folder);
	copy_self(program);
	/* A third process removes the folder: the tracer may not. */
	if (!fork()) {
		be_a_user();
		prctl(PR_SET_DUMPABLE, 1);
		child = fork();
		if (!child) {
			ptrace(PTRACE_TRACEME, 0, NULL, NULL);
			_exit(run(program));
		}
		while (waitpid(child, &status, 0) == child && WIFSTOPPED(status))
			ptrace(PTRACE_CONT, child, NULL, NULL);
		_exit(WEXITSTATUS(status));
	}
	wait(&status);
	unlink(program);
	rmdir(folder);
	return WEXITSTATUS(status);
}
