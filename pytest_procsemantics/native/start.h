/*
 * The hub's start: channels, what the target offers, the greeting.
 */

static void greet(const char *path, uint32_t page_size, long failed_call, long result)
{
	struct greeting greeting;

	memset(&greeting, 0, sizeof(greeting));
	greeting.answer.length = sizeof(greeting) - 8;
	greeting.answer.kind = GREETING;
	greeting.answer.serial = (uint32_t)failed_call;
	greeting.answer.result = result;
	greeting.protocol = PROTOCOL;
	greeting.slots = SLOTS;
	greeting.packet_limit = PACKET_LIMIT;
	greeting.page_size = page_size;
	greeting.hub_pid = (uint32_t)hub.pid;
	greeting.abilities = hub.abilities;
	greeting.data_address = (uint64_t)((struct request *)rooms[0].packet)->data;
	greeting.room_size = sizeof(struct room);
	greeting.handler = (uint64_t)count_signal;
	greeting.restorer = RESTORER;
	greeting.counters = (uint64_t)signal_counts;
	greeting.last_signal = (uint64_t)last_signal;
	append(greeting.machine, greeting.machine + sizeof(greeting.machine), MACHINE);
	append(greeting.path, greeting.path + sizeof(greeting.path), path);
	write_all(1, preamble, sizeof(preamble));
	write_all(1, &greeting, sizeof(greeting));
}

/* One pair for each slot and one for all on the way back. Gives 0, or -errno with the number of the
 * call in *failed. */
static long make_channels(long *failed)
{
	struct rlimit raised;
	long result;

	*failed = NR_prlimit64;
	result = call4(NR_prlimit64, 0, RLIMIT_NOFILE, 0, &given.files);
	if (result)
		return result;
	raised = given.files;
	if (raised.soft <= HUB_LAST && raised.hard > raised.soft) {
		raised.soft = raised.hard;
		given.has_raised_files = 1;
		call4(NR_prlimit64, 0, RLIMIT_NOFILE, &raised, 0);
	}
	/* What a wrapper left open is none of a check's business. */
	if (call3(NR_close_range, 3, ~0U, 0))
		for (int fd = 3; fd < 1024; fd++)
			call1(NR_close, fd);
	for (uint32_t slot = 0; slot <= SLOTS; slot++) {
		int32_t pair[2];
		int32_t on = 1;

		*failed = NR_socketpair;
		result = call4(NR_socketpair, AF_UNIX, SOCK_SEQPACKET, 0, pair);
		if (result)
			return result;
		*failed = NR_dup3;
		result = call3(NR_dup3, pair[0], UP + slot, 0);
		if (result < 0)
			return result;
		result = call3(NR_dup3, pair[1], HUB_UP + slot, O_CLOEXEC);
		if (result < 0)
			return result;
		call1(NR_close, pair[0]);
		call1(NR_close, pair[1]);
		if (!slot &&
		    !call5(NR_setsockopt, HUB_UP, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)))
			hub.abilities |= CREDENTIALS;
	}
	/* A target may have no /dev/null; a closed channel's other end reads as empty just as well.
	 */
	result = call4(NR_openat, AT_FDCWD, "/dev/null", O_RDWR, 0);
	if (result < 0) {
		int32_t pair[2];

		*failed = NR_socketpair;
		result = call4(NR_socketpair, AF_UNIX, SOCK_SEQPACKET, 0, pair);
		if (result)
			return result;
		call1(NR_close, pair[1]);
		result = pair[0];
	}
	call3(NR_dup3, result, HUB_NULL, O_CLOEXEC);
	call1(NR_close, result);
	return 0;
}

/* Finds out what the target offers, by the act. */
static void find_abilities(void)
{
	char link[24];
	char own[24];
	long length, fd;

	hub.pid = (int32_t)call0(NR_getpid);
	if (hub.pid == 1)
		hub.abilities |= INIT;
	if (!call5(NR_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
		hub.abilities |= SUBREAPER;
	fd = call2(NR_pidfd_open, hub.pid, 0);
	if (fd >= 0) {
		hub.abilities |= PIDFD;
		call1(NR_close, fd);
	}
	fd = call2(NR_pidfd_open, hub.pid, PIDFD_THREAD);
	if (fd >= 0) {
		hub.abilities |= THREAD_PIDFD;
		call1(NR_close, fd);
	}
	given.is_closing_ranges = !call3(NR_close_range, HUB_LAST + 1, HUB_LAST + 1, 0);
	append_number(own, own + sizeof(own), (uint64_t)hub.pid);
	length = call4(NR_readlinkat, AT_FDCWD, "/proc/self", link, sizeof(link) - 1);
	link[length > 0 ? length : 0] = 0;
	if (length > 0)
		hub.abilities |= PROC;
	hub.is_foreign_proc = !same_text(link, own);
}

static void set_base(char **environment)
{
	append(hub.base, hub.base + sizeof(hub.base), "/tmp");
	for (; *environment; environment++)
		if (same_start(*environment, "TMPDIR=/") &&
		    length_of(*environment + 7) < sizeof(hub.base))
			append(hub.base, hub.base + sizeof(hub.base), *environment + 7);
}
