/*
 * gVisor's wait calls. wait(2) says: si_code is CLD_STOPPED, CLD_CONTINUED or CLD_TRAPPED and
 * si_status the signal; waitid refuses an impossible id with EINVAL and what is no pidfd with
 * EBADF; wait4 takes __WCLONE beside __WALL and ignores it.
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static int errno_of_waitid(int kind, int id)
{
	siginfo_t info;

	return waitid(kind, id, &info, WEXITED | WNOHANG) ? errno : 0;
}

/* A child that sends itself SIGSTOP, and what waitid tells of it. */
static int code_of_stop(int is_traced)
{
	siginfo_t info = {0};
	pid_t child = fork();

	if (!child) {
		if (is_traced)
			ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(0);
	}
	if (waitid(P_PID, child, &info, WEXITED | WSTOPPED | WNOWAIT))
		fail("waitid");
	printf("code %d, status %d\n", info.si_code, info.si_status);
	kill(child, SIGKILL);
	return info.si_code == CLD_STOPPED || info.si_code == CLD_TRAPPED ? 0 : info.si_code;
}

static int stopped(void)
{
	return code_of_stop(0);
}

static int trapped(void)
{
	return code_of_stop(1);
}

static int continued(void)
{
	siginfo_t info = {0};
	pid_t child = fork();

	if (!child) {
		raise(SIGSTOP);
		pause();
	}
	if (waitid(P_PID, child, &info, WSTOPPED) || kill(child, SIGCONT) ||
	    waitid(P_PID, child, &info, WCONTINUED))
		fail("waitid");
	printf("code %d, status %d\n", info.si_code, info.si_status);
	kill(child, SIGKILL);
	return info.si_code != CLD_CONTINUED;
}

/* Where the id is not refused there is no child to be found, or the group's. */
static int impossible_ids(void)
{
	if (!fork())
		_exit(0);
	return errno_of_waitid(P_PID, 0) != EINVAL && errno_of_waitid(P_PID, -3) != EINVAL &&
	       errno_of_waitid(P_PGID, -1) != EINVAL;
}

static int no_pidfd(void)
{
	return errno_of_waitid(P_PIDFD, 1000) == EINVAL && errno_of_waitid(P_PIDFD, 0) == EINVAL;
}

static int wall_and_wclone(void)
{
	return waitpid(-1, NULL, __WALL | __WCLONE | WNOHANG) < 0 && errno == EINVAL;
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"stopped", stopped},
		{"trapped", trapped},
		{"continued", continued},
		{"impossible-ids", impossible_ids},
		{"no-pidfd", no_pidfd},
		{"wall-and-wclone", wall_and_wclone},
		{0},
	};

	return witness(facts, argc, argv);
}
