/*
 * Calls that gVisor refuses or takes otherwise than their pages say, and without which a check
 * can't see what exec or fork makes of an attribute.
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <fcntl.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <sys/personality.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static int is_refused(long result, int with)
{
	printf("%ld, %s\n", result, strerror(errno));
	return result == -1 && errno == with;
}

/* The first process is a reaper anyhow, so the call is a child's. */
static int no_sub_reaper(void)
{
	int status;

	if (!fork())
		_exit(is_refused(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), EINVAL));
	wait(&status);
	return WEXITSTATUS(status);
}

static int no_thp_disable(void)
{
	return is_refused(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), EINVAL);
}

static int no_timer_slack(void)
{
	return is_refused(prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0), EINVAL);
}

static int no_secure_bits(void)
{
	return is_refused(prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS, 0, 0, 0), EINVAL);
}

static int no_personality(void)
{
	return is_refused(personality(ADDR_NO_RANDOMIZE), EINVAL);
}

static int no_other_scheduling(void)
{
	struct sched_param none = {0};

	return is_refused(sched_setscheduler(0, SCHED_BATCH, &none), EINVAL);
}

static int no_priority(void)
{
	struct sched_param some = {5};

	return is_refused(syscall(SYS_sched_setparam, 0, &some), ENOSYS);
}

static int no_range_of_priorities(void)
{
	return sched_get_priority_max(SCHED_FIFO) == 0;
}

static int no_queue_notification(void)
{
	return is_refused(syscall(SYS_mq_notify, 0, NULL), ENOSYS);
}

/* How many mappings are not to be dumped: they have dd in VmFlags (proc(5), smaps). */
static int not_to_be_dumped(void)
{
	FILE *smaps = fopen("/proc/self/smaps", "r");
	char line[256];
	int count = 0;

	if (!smaps)
		fail("smaps");
	while (fgets(line, sizeof(line), smaps))
		count += !strncmp(line, "VmFlags:", 8) && strstr(line, " dd");
	fclose(smaps);
	return count;
}

static int no_advice_in_smaps(void)
{
	char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int before = not_to_be_dumped();

	if (madvise(page, 4096, MADV_DONTDUMP))
		fail("madvise");
	return not_to_be_dumped() == before;
}

static int no_limit_of_priority(void)
{
	struct rlimit none = {0, 0};

	return is_refused(setrlimit(RLIMIT_RTPRIO, &none), EPERM);
}

static int no_locks_of_open_files(void)
{
	struct flock lock = {.l_type = F_RDLCK};

	return is_refused(fcntl(open(self, O_RDONLY), F_OFD_SETLK, &lock), EINVAL);
}

static int no_file_capabilities(void)
{
	const char none[20] = {0, 0, 0, 2};
	char path[] = "/tmp/witness-XXXXXX";
	int fd = mkstemp(path);
	int refused = is_refused(fsetxattr(fd, "security.capability", none, 20, 0), ENOTSUP);

	unlink(path);
	return refused;
}

/* The highest descriptor that there can be is the usual way to say "all above". */
static int close_range_to_the_end(void)
{
	return is_refused(syscall(SYS_close_range, 100, ~0U, 0), EINVAL);
}

static int setsid_gives_zero(void)
{
	int status;

	if (!fork())
		_exit(setsid() == 0 && getsid(0) == getpid());
	wait(&status);
	return WEXITSTATUS(status);
}

static int setpgid_of_leader(void)
{
	int status;

	if (!fork()) {
		setsid();
		_exit(setpgid(0, 0) == 0);
	}
	wait(&status);
	return WEXITSTATUS(status);
}

static int no_limit_of_signals(void)
{
	return is_refused(setrlimit(RLIMIT_SIGPENDING, &(struct rlimit){0, 0}), EPERM);
}

static int negative_is_einval(void)
{
	void *head;
	size_t length;

	return is_refused(syscall(SYS_get_robust_list, -1, &head, &length), EINVAL);
}

/* Another user's process, which the caller may not read. */
static int robust_list_of_another(void)
{
	int status;

	if (!fork()) {
		void *head;
		size_t length;

		if (setresuid(1000, 1000, 1000))
			_exit(2);
		_exit(syscall(SYS_get_robust_list, getppid(), &head, &length) == 0);
	}
	wait(&status);
	return WEXITSTATUS(status) == 1;
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"sub-reaper", no_sub_reaper},
		{"thp-disable", no_thp_disable},
		{"timer-slack", no_timer_slack},
		{"secure-bits", no_secure_bits},
		{"personality", no_personality},
		{"scheduling", no_other_scheduling},
		{"priority", no_priority},
		{"range-of-priorities", no_range_of_priorities},
		{"queue-notification", no_queue_notification},
		{"advice-in-smaps", no_advice_in_smaps},
		{"limit-of-priority", no_limit_of_priority},
		{"locks-of-open-files", no_locks_of_open_files},
		{"file-capabilities", no_file_capabilities},
		{"close-range-to-the-end", close_range_to_the_end},
		{"setsid", setsid_gives_zero},
		{"setpgid-of-leader", setpgid_of_leader},
		{"limit-of-signals", no_limit_of_signals},
		{"robust-list-of-negative", negative_is_einval},
		{"robust-list-of-another", robust_list_of_another},
		{0},
	};

	return witness(facts, argc, argv);
}
