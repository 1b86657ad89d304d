/*
 * System calls without a libc: a call gives what the kernel gave, a negative errno included.
 *
 * Constants stand here and not in the system's headers: those of a build machine may be older than
 * what we need, and a cross compiler for a bare target brings none.
 */

#include <stddef.h>
#include <stdint.h>

#include "arch/arch.h"

#define EPERM 1
#define ENOENT 2
#define ESRCH 3
#define EINTR 4
#define EBADF 9
#define ECHILD 10
#define EAGAIN 11
#define EACCES 13
#define EBUSY 16
#define EEXIST 17
#define EXDEV 18
#define ENOTDIR 20
#define EINVAL 22
#define ENOSYS 38
#define ENOTEMPTY 39

#define AT_FDCWD (-100)
#define AT_REMOVEDIR 0x200
#define O_RDONLY 0
#define O_WRONLY 1
#define O_RDWR 2
#define O_CREAT 0100
#define O_EXCL 0200
#define O_CLOEXEC 02000000
#define O_NONBLOCK 04000
#define O_PATH 010000000

#define AF_UNIX 1
#define SOCK_SEQPACKET 5
#define SOL_SOCKET 1
#define SO_PASSCRED 16
#define SCM_CREDENTIALS 2
#define MSG_PEEK 0x02
#define MSG_DONTWAIT 0x40
#define MSG_NOSIGNAL 0x4000

#define SIGHUP 1
#define SIGINT 2
#define SIGQUIT 3
#define SIGKILL 9
#define SIGTERM 15
#define SIGCHLD 17
#define SIGCONT 18
#define SIGNALS 64
#define CLOCK_MONOTONIC 1
#define SIG_BLOCK 0
#define SIG_SETMASK 2

#define MADV_DONTFORK 10
#define WNOHANG 1
#define WALL 0x40000000
#define PR_SET_CHILD_SUBREAPER 36
#define RLIMIT_CORE 4
#define RLIMIT_NOFILE 7
#define PIDFD_THREAD O_EXCL /* a pidfd of one thread: Linux 6.9 */
#define POLLIN 1
#define POLLHUP 16
#define AT_PAGESZ 6

struct pollfd {
	int32_t fd;
	int16_t events;
	int16_t revents;
};

struct timespec {
	int64_t seconds;
	int64_t nanoseconds;
};

struct iovec {
	void *base;
	size_t length;
};

struct message {
	void *name;
	uint32_t name_length;
	struct iovec *parts;
	size_t part_count;
	void *control;
	size_t control_length;
	int32_t flags;
};

struct rlimit {
	uint64_t soft;
	uint64_t hard;
};

#define call0(n) call6(n, 0, 0, 0, 0, 0, 0)
#define call1(n, a) call6(n, (long)(a), 0, 0, 0, 0, 0)
#define call2(n, a, b) call6(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define call3(n, a, b, c) call6(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define call4(n, a, b, c, d) call6(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define call5(n, a, b, c, d, e) call6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

static void __attribute__((noreturn)) leave(int status)
{
	for (;;)
		call1(NR_exit_group, status);
}

/* Waits for one of the descriptors, at most so many nanoseconds, for ever where that is negative.
 * ppoll itself writes what is left of the time into its timespec, so each wait has one of its own:
 * who waits with the same one again waits for nothing, and spins. */
static long wait_for(struct pollfd *polled, size_t count, int64_t nanoseconds)
{
	struct timespec time = {nanoseconds / 1000000000, nanoseconds % 1000000000};

	return call5(NR_ppoll, polled, count, nanoseconds < 0 ? 0 : &time, 0, 8);
}

/* The compiler may ask for these two by itself. */
__attribute__((used)) void *memset(void *to, int byte, size_t length)
{
	volatile char *at = to;

	while (length--)
		*at++ = (char)byte;
	return to;
}

__attribute__((used)) void *memcpy(void *to, const void *from, size_t length)
{
	volatile char *at = to;
	const char *source = from;

	while (length--)
		*at++ = *source++;
	return to;
}

static size_t length_of(const char *text)
{
	size_t length = 0;

	while (text[length])
		length++;
	return length;
}

static int same_text(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

/* Appends text at *at, which must stay below end; gives the new end of the text. Nothing is written
 * beyond. */
static char *append(char *at, const char *end, const char *text)
{
	while (*text && at < end - 1)
		*at++ = *text++;
	*at = 0;
	return at;
}

static char *append_number(char *at, const char *end, uint64_t number)
{
	char digits[21];
	char *first = digits + sizeof(digits) - 1;

	*first = 0;
	do {
		*--first = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	return append(at, end, first);
}

/* Writes everything, however many calls that takes. Returns 0 or a negative errno. */
static long write_all(int fd, const void *from, size_t length)
{
	const char *at = from;

	while (length) {
		long wrote = call3(NR_write, fd, at, length);

		if (wrote == -EINTR)
			continue;
		if (wrote <= 0)
			return wrote ? wrote : -EAGAIN;
		at += wrote;
		length -= (size_t)wrote;
	}
	return 0;
}

static int same_start(const char *text, const char *start)
{
	while (*start && *text == *start) {
		text++;
		start++;
	}
	return !*start;
}
