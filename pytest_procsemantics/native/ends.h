/*
 * How the hub learns that a driven process has ended: by pidfds, else by looking into /proc.
 */

static void forget(uint32_t slot)
{
	if (hub.watches[slot].pidfd >= 0)
		call1(NR_close, hub.watches[slot].pidfd);
	hub.watches[slot].pid = 0;
	hub.watches[slot].pidfd = -1;
	/* Who was killed before an exec had an answer leaves it unanswered, and the slot's next
	 * thread would be taken for one that execs when it ends. */
	hub.watches[slot].exec = 0;
	hub.polled[slot + 1].fd = -1;
	hub.polled[slot + 1].revents =
		0; /* an end that was seen before the slot's process became another */
}

/* Throws away what waits. Not by way of hub.packet, which may hold a hello on its way up. */
static void drain(int fd)
{
	char first;

	while (call6(NR_recvfrom, fd, (long)&first, 1, MSG_DONTWAIT, 0, 0) >= 0)
		;
}

/* Reaps a child of the hub's that has ended. A pidfd says so before a tracer that isn't its parent
 * (PRoot is everybody's) has taken the end, and until then there is nothing for the parent to wait
 * for. A tracer of the test's own may never take it, so this has an end. */
static int32_t reaped(int32_t pid)
{
	int32_t status;

	for (int look = 0; look < 100; look++) {
		long ended = call4(NR_wait4, pid, &status, WNOHANG | WALL, 0);

		if (ended)
			return ended == pid ? status : -1;
		wait_for(0, 0, 1000000);
	}
	return -1;
}

/* The process in a slot is gone. What it was not able to read is thrown away, so that the slot can
 * be used again. */
static void report_death(uint32_t slot)
{
	const struct watch *watch = &hub.watches[slot];
	int32_t status = watch->tid ? -1 : reaped(watch->pid);

	forget(slot);
	drain(DOWN(slot));
	tell(DEATH, slot, status, "");
}

static char *proc_path(char *path, size_t size, const struct watch *watch, const char *last)
{
	const char *end = path + size;
	char *at = append(path, end, "/proc/");

	at = append_number(at, end, (uint64_t)watch->pid);
	if (watch->tid) {
		at = append(at, end, "/task/");
		at = append_number(at, end, (uint64_t)watch->tid);
	}
	append(at, end, last);
	return path;
}

/* Whether /proc says that a process without pidfd has ended. A leader is a zombie as soon as it has
 * ended itself, but the process lives on while another thread does: only a task folder with one
 * entry left (3 links) is an end. */
static int has_ended(const struct watch *watch)
{
	char text[512];
	long fd = call4(NR_openat, AT_FDCWD, proc_path(text, sizeof(text), watch, "/stat"),
			O_RDONLY | O_CLOEXEC, 0);
	long length, at = 0;

	if (fd < 0)
		return 1;
	length = call3(NR_read, fd, text, sizeof(text) - 1);
	call1(NR_close, fd);
	if (length <= 0)
		return 1;
	text[length] = 0;
	/* The name in brackets may hold anything: the state follows the last bracket. The number of
	 * threads is the eighteenth field after it. */
	for (long i = 0; i < length; i++)
		if (text[i] == ')')
			at = i + 2;
	if (text[at] == 'X')
		return 1;
	if (text[at] != 'Z')
		return 0;
	for (int field = 0; field < 17 && at < length; at++)
		field += text[at] == ' ';
	return watch->tid || text[at] == '0' || text[at + 1] == ' ';
}

static void start_watch(uint32_t slot, int32_t pid, int32_t tid)
{
	struct watch *watch = &hub.watches[slot];

	forget(slot);
	watch->pid = pid;
	watch->tid = tid;
	if (slot > hub.highest)
		hub.highest = slot;
	if (hub.abilities & (tid ? THREAD_PIDFD : PIDFD)) {
		long fd = call2(NR_pidfd_open, tid ? tid : pid, tid ? PIDFD_THREAD : 0);

		if (fd >= 0)
			watch->pidfd = hub.polled[slot + 1].fd = (int32_t)fd;
		else if (fd == -ESRCH)
			report_death(slot);
	}
}

/* What the kernel says of a slot: its process has ended, or its thread. A thread that execs takes
 * its leader's id, and the end of its own is none: from then on the process is watched. */
static void take_end(uint32_t slot)
{
	const struct watch *watch = &hub.watches[slot];

	if (watch->tid && watch->exec)
		start_watch(slot, watch->pid, 0);
	else
		report_death(slot);
}
