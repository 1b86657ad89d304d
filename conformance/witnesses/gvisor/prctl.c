/*
 * Options of prctl that gVisor refuses, although it knows the call. prctl(2) has all of them.
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int is_refused(long result)
{
	printf("%ld, %s\n", result, strerror(errno));
	return result == -1 && errno == EINVAL;
}

static int no_ambient_set(void)
{
	return is_refused(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 13, 0, 0));
}

static int no_machine_checks(void)
{
	return is_refused(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0));
}

static int no_time_stamp_counter(void)
{
	return is_refused(prctl(PR_SET_TSC, PR_TSC_ENABLE, 0, 0, 0));
}

static int no_strict_mode(void)
{
	int status;

	if (!fork()) {
		/* In strict mode the end is death. */
		_exit(is_refused(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0)) &&
		      is_refused(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL)));
	}
	wait(&status);
	return WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"ambient", no_ambient_set},
		{"machine-checks", no_machine_checks},
		{"time-stamp-counter", no_time_stamp_counter},
		{"strict-mode", no_strict_mode},
		{0},
	};

	return witness(facts, argc, argv);
}
