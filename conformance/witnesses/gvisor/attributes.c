/*
 * gVisor's files, sockets, terminals and children. The pages say: a file can have a lease; a signal
 * of asynchronous I/O tells POLL_IN; proc(5) has a filter for cores; RLIMIT_NPROC doesn't hold for
 * user 0; the word of set_tid_address is zeroed when a signal ends a process, too; a terminal's
 * hang-up is told to the leader of its session; SIGCHLD tells SIGCONT of a child that goes on;
 * devices and routes can be changed, and rtnetlink tells of it.
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/route.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const struct timespec moment = {0, 300000000};

static int is_refused(long result, int with)
{
	printf("%ld, %s\n", result, strerror(errno));
	return result == -1 && errno == with;
}

static sigset_t block(int signal)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signal);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return set;
}

static int no_leases(void)
{
	char name[] = "/tmp/witness-XXXXXX";
	int fd;

	close(mkstemp(name));
	fd = open(name, O_RDONLY);
	unlink(name);
	return is_refused(fcntl(fd, F_SETLEASE, F_RDLCK), EINVAL);
}

static int code_of_io(void)
{
	sigset_t set = block(SIGRTMIN);
	siginfo_t info = {0};
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) || fcntl(ends[0], F_SETOWN, getpid()) ||
	    fcntl(ends[0], F_SETSIG, SIGRTMIN) || fcntl(ends[0], F_SETFL, O_ASYNC))
		fail("fcntl");
	write(ends[1], "x", 1);
	sigtimedwait(&set, &info, &moment);
	printf("si_code %d\n", info.si_code);
	return info.si_code == SI_KERNEL;
}

static int no_core_filter(void)
{
	return is_refused(access("/proc/self/coredump_filter", F_OK), ENOENT);
}

static int user_0_is_limited(void)
{
	struct {
		unsigned version;
		int pid;
	} header = {0x20080522, 0};
	unsigned none[6] = {0};
	struct rlimit zero;
	pid_t child;

	getrlimit(RLIMIT_NPROC, &zero);
	zero.rlim_cur = 0;
	if (setrlimit(RLIMIT_NPROC, &zero) || syscall(SYS_capset, &header, none))
		fail("capset");
	child = fork();
	if (!child)
		_exit(0);
	return is_refused(child, EAGAIN);
}

static int *word;

static int waits_with_word(void *unused)
{
	(void)unused;
	syscall(SYS_set_tid_address, word);
	*(volatile int *)word = 77;
	return pause();
}

static int word_stays(void)
{
	char *stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid_t child;

	word = (int *)stack;
	child = clone(waits_with_word, stack + 65536, CLONE_VM | SIGCHLD, NULL);
	while (*(volatile int *)word != 77)
		;
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return *(volatile int *)word == 77;
}

static int no_hangup_of_leader(void)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY), ends[2], status;
	sigset_t set = block(SIGHUP);
	char ready;

	if (master < 0 || grantpt(master) || unlockpt(master) || pipe(ends))
		fail("posix_openpt");
	if (!fork()) {
		setsid();
		if (ioctl(open(ptsname(master), O_RDWR | O_NOCTTY), TIOCSCTTY, 0))
			_exit(2);
		close(master);
		write(ends[1], "x", 1);
		_exit(sigtimedwait(&set, NULL, &moment) != SIGHUP);
	}
	read(ends[0], &ready, 1);
	close(master);
	wait(&status);
	return WEXITSTATUS(status) == 1;
}

static int no_signal_of_continuation(void)
{
	sigset_t set = block(SIGCHLD);
	siginfo_t info;
	pid_t child = fork();

	if (!child)
		for (;;)
			pause();
	kill(child, SIGSTOP);
	sigtimedwait(&set, &info, &moment);
	kill(child, SIGCONT);
	sigtimedwait(&set, &info, &moment);
	kill(child, SIGKILL);
	printf("si_code %d, si_status %d\n", info.si_code, info.si_status);
	return info.si_code == CLD_CONTINUED && info.si_status != SIGCONT;
}

static int no_change_of_devices(void)
{
	struct ifreq device = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	struct rtentry route = {.rt_flags = RTF_UP, .rt_dev = "lo"};
	int socket_fd;

	if (unshare(CLONE_NEWNET))
		fail("unshare");
	socket_fd = socket(AF_INET, SOCK_DGRAM, 0);
	return is_refused(ioctl(socket_fd, SIOCSIFFLAGS, &device), ENOTTY) &&
	       is_refused(ioctl(socket_fd, SIOCSIFNAME, &device), ENOTTY) &&
	       is_refused(ioctl(socket_fd, SIOCADDRT, &route), ENOTTY);
}

static int no_groups_of_netlink(void)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};

	return is_refused(bind(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE),
			       (struct sockaddr *)&address, sizeof(address)),
			  EACCES);
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"leases", no_leases},
		{"code-of-io", code_of_io},
		{"core-filter", no_core_filter},
		{"user-0-at-the-limit", user_0_is_limited},
		{"word-after-kill", word_stays},
		{"hangup-of-leader", no_hangup_of_leader},
		{"signal-of-continuation", no_signal_of_continuation},
		{"change-of-devices", no_change_of_devices},
		{"groups-of-netlink", no_groups_of_netlink},
		{0},
	};

	return witness(facts, argc, argv);
}
