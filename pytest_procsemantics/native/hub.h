/*
 * The hub: the agent's first process. It forwards frames, makes a root process for each test, says
 * when a driven process ended, and ends and removes whatever is left when a test or its own input
 * ends.
 *
 * It never waits for a driven process: all that waits is one ppoll. Only a tracer that has yet to
 * take an end gets a moment for it (ends.h).
 */

#include "state.h"

#include "ends.h"
#include "start.h"

#define GLANCE 5000000 /* nanoseconds until what nobody tells is looked for again */

static char *folder_path(char *path, size_t size)
{
	const char *end = path + size;
	char *at = append(path, end, hub.base);

	at = append(at, end, "/procsem-");
	at = append_number(at, end, (uint64_t)hub.pid);
	at = append(at, end, "-");
	append_number(at, end, hub.folders);
	return path;
}

/* A new path each time, so that a folder that could not be removed does no harm to the next test. A
 * target need not have the folder that the host named. */
static void make_folder(void)
{
	char path[256];
	long result = 0;

	if (!hub.has_folder) {
		hub.folders++;
		result = call3(NR_mkdirat, AT_FDCWD, folder_path(path, sizeof(path)), 0755);
		if (result) {
			append(hub.base, hub.base + sizeof(hub.base), "/tmp");
			call3(NR_mkdirat, AT_FDCWD, hub.base, 01777);
			result = call3(NR_mkdirat, AT_FDCWD, folder_path(path, sizeof(path)), 0755);
		}
		hub.has_folder = !result;
	}
	tell(FOLDER, 0, result, folder_path(path, sizeof(path)));
}

/* --- the way up --- */

/* A new process or image: who it is, in the hub's numbers. */
static void take_hello(struct hello *hello, uint32_t slot, const struct message *message)
{
	const char *control = message->control;
	int32_t level_and_kind[2];

	if (message->control_length >= 28) {
		memcpy(level_and_kind, control + sizeof(size_t), sizeof(level_and_kind));
		if (level_and_kind[0] == SOL_SOCKET && level_and_kind[1] == SCM_CREDENTIALS)
			memcpy(&hello->hub_pid, control + sizeof(size_t) + 8,
			       sizeof(hello->hub_pid));
	}
	/* gVisor names the thread that wrote, not its process. */
	if (!hello->hub_pid || hello->hub_pid == hello->tid)
		hello->hub_pid = hello->pid;
	if (hello->answer.kind == IMAGE) {
		/* An exec ends all other threads, and their slots with them. */
		for (uint32_t other = 1; other <= hub.highest; other++) {
			if (other != slot && hub.watches[other].pid == (int32_t)hello->hub_pid) {
				forget(other);
				drain(DOWN(other));
				tell(DEATH, other, -1, "");
			}
		}
	}
}

/* The id of a thread is known in its own pid namespace only: elsewhere its end is not watched. */
static void watch_from(const struct hello *hello, uint32_t slot)
{
	if (hello->pid == hello->tid)
		start_watch(slot, (int32_t)hello->hub_pid, 0);
	else if (hello->pid == hello->hub_pid)
		start_watch(slot, (int32_t)hello->hub_pid, (int32_t)hello->tid);
}

/* Takes one packet from the way up to the driver. Returns whether there was one. */
static int forward_up(void)
{
	char control[64] __attribute__((aligned(8)));
	struct iovec part = {hub.packet, sizeof(hub.packet)};
	struct message message = {0, 0, &part, 1, control, sizeof(control), 0};
	struct hello *hello = (struct hello *)hub.packet;
	struct answer *answer = &hello->answer;
	long length = call3(NR_recvmsg, HUB_UP, &message, MSG_DONTWAIT);

	if (length < 0)
		return 0;
	/* Any program that a check started holds this channel and may have written into it. */
	if (length < (long)sizeof(*answer) || !answer->channel || answer->channel > SLOTS ||
	    answer->kind < ANSWER || answer->kind > IMAGE ||
	    (answer->kind != ANSWER && length != sizeof(*hello))) {
		tell(STRAY, 0, length, "");
		return 1;
	}
	answer->length = (uint32_t)length - 8;
	uint32_t slot = answer->channel;

	if (answer->kind == IMAGE || answer->serial == hub.watches[slot].exec)
		hub.watches[slot].exec = 0;

	if (answer->kind != ANSWER)
		take_hello(hello, slot, &message);
	write_all(1, hub.packet, (size_t)length);
	/* Not before: whoever has already ended is reported at once. */
	if (answer->kind != ANSWER)
		watch_from(hello, slot);
	return 1;
}

/* --- the end of a test --- */

/* Clean when the kernel says that the hub has no child left. Where orphans come to the hub that is
 * the proof that nothing is left; what hangs below a child comes up when the child is dead. */
static void end_processes(void)
{
	uint64_t killed = 0; /* a bit for each slot */

	for (uint32_t slot = 1; slot <= hub.highest; slot++)
		if (hub.watches[slot].pidfd >= 0 && !hub.watches[slot].tid &&
		    !call4(NR_pidfd_send_signal, hub.watches[slot].pidfd, SIGKILL, 0, 0))
			killed |= 1ULL << slot;
	/* Most tests are over when these have ended, and /proc, which is dear, need not be looked
	 * at. */
	for (uint32_t slot = 1; slot <= hub.highest; slot++)
		if (killed >> slot & 1)
			wait_for(&hub.polled[slot + 1], 1, 100000000);
	for (;;) {
		long ended = call4(NR_wait4, -1, 0, WNOHANG | WALL, 0);

		if (ended > 0)
			continue;
		if (ended == -ECHILD)
			break;
		if (hub.pid == 1)
			call2(NR_kill, -1, SIGKILL);
		else if (!hub.is_foreign_proc && !kill_children(hub.pid))
			continue;
		call4(NR_wait4, -1, 0, WALL, 0);
	}
}

static void clean(void)
{
	char path[256];
	long result = 0;

	end_processes();
	for (uint32_t slot = 1; slot <= hub.highest; slot++) {
		forget(slot);
		drain(DOWN(slot));
	}
	drain(HUB_UP);
	hub.highest = 0;
	if (hub.has_folder)
		result = remove_tree(AT_FDCWD, folder_path(path, sizeof(path)));
	hub.has_folder = 0;
	tell(CLEAN, 0, result, "");
}

/* --- the way down --- */

static void close_all(int first, int last)
{
	if (!given.is_closing_ranges || call3(NR_close_range, first, last, 0))
		for (int fd = first; fd <= last; fd++)
			call1(NR_close, fd);
}

/* What a root changes of what it has from the hub: a process group of its own, the machine's
 * limits, no descriptors but /dev/null on 0 to 2 and the channels. A session of its own would cost
 * more than all the rest: the scheduler makes a group of tasks for each (sched(7), autogroup). */
static void set_up_root(void)
{
	uint64_t nothing = 0;

	call2(NR_setpgid, 0, 0);
	for (int fd = 0; fd < 3; fd++)
		call3(NR_dup3, HUB_NULL, fd, 0);
	if (given.has_pidfds)
		close_all(3, 3 + SLOTS); /* the hub has nothing else there */
	close_all(HUB_FIRST, HUB_LAST);
	if (given.has_raised_files)
		call4(NR_prlimit64, 0, RLIMIT_NOFILE, &given.files, 0);
	call4(NR_rt_sigprocmask, SIG_SETMASK, &nothing, 0, 8);
}

static void new_root(uint32_t slot)
{
	static const int64_t args[6] = {SIGCHLD};
	long result;

	given.has_pidfds = 0;
	for (uint32_t other = 1; other <= hub.highest; other++)
		given.has_pidfds |= hub.watches[other].pidfd >= 0;
	result = create(NR_clone, args, rooms[slot].packet, slot | ROOT);

	if (result < 0)
		tell(REFUSED, slot, result, "");
}

static void obey(const struct request *request)
{
	switch (request->kind) {
	case PING:
		tell(PONG, request->serial, 0, "");
		break;
	case NEW_ROOT:
		if (request->number > 0 && request->number <= SLOTS)
			new_root((uint32_t)request->number);
		break;
	case FREE_SLOT:
		if (request->number > 0 && request->number <= SLOTS)
			drain(DOWN(request->number));
		break;
	case NEW_FOLDER:
		make_folder();
		break;
	case END_OF_TEST:
		clean();
		break;
	}
}

static void forward_down(const uint32_t *frame)
{
	uint32_t slot = frame[0] & ~EXECUTES;

	if (frame[0] & EXECUTES)
		hub.watches[slot].exec = ((const struct request *)(frame + 2))->serial;
	if (slot > hub.highest)
		hub.highest = slot; /* so that what nobody reads is thrown away in the end */
	long result = call6(NR_sendto, HUB_DOWN(slot), (long)(frame + 2), frame[1],
			    MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);

	if (result < 0)
		tell(REFUSED, slot, result, "");
}

/* Takes what the driver wrote. Returns 0 at its end, and when it is no driver of ours. */
static int take_input(void)
{
	long got = call3(NR_read, 0, hub.input + hub.held, sizeof(hub.input) - hub.held);
	uint32_t at = 0;

	if (got == -EINTR || got == -EAGAIN)
		return 1;
	if (got <= 0)
		return 0;
	hub.held += (uint32_t)got;
	while (hub.held - at >= 8) {
		const uint32_t *frame = (const uint32_t *)(hub.input + at);

		if ((frame[0] & ~EXECUTES) > SLOTS || frame[1] > PACKET_LIMIT || frame[1] % 8)
			return 0;
		if (hub.held - at < 8 + frame[1])
			break;
		if (frame[0])
			forward_down(frame);
		else if (frame[1] >= sizeof(struct request))
			obey((const struct request *)(frame + 2));
		at += 8 + frame[1];
	}
	hub.held -= at;
	if (at)
		for (uint32_t i = 0; i < hub.held; i++)
			hub.input[i] = hub.input[at + i];
	return 1;
}

static void __attribute__((noreturn)) run_hub(const char *path, char **environment,
					      uint32_t page_size)
{
	/* Nothing that a check sends by mistake may end the hub; SIGTERM may, for the keeper sends
	 * it. */
	uint64_t mask = ~(1ULL << (SIGTERM - 1));
	struct rlimit core;
	long failed = 0, result;

	for (int signal = 1; signal <= SIGNALS; signal++) {
		uint64_t by_default[4] = {0};

		call4(NR_rt_sigaction, signal, by_default, 0, 8);
	}
	call4(NR_rt_sigprocmask, SIG_SETMASK, &mask, 0, 8);
	call0(NR_setsid);
	call1(NR_umask, 022);
	call1(NR_chdir, "/");
	/* A check that ends a process by a signal leaves no core file anywhere, unless it asks for
	 * one. */
	if (!call4(NR_prlimit64, 0, RLIMIT_CORE, 0, &core)) {
		core.soft = 0;
		call4(NR_prlimit64, 0, RLIMIT_CORE, &core, 0);
	}
	set_base(environment);
	/* Else each process that the hub makes costs it a fault for each page that it writes
	 * afterwards. */
	if (page_size == HUB_ALIGNMENT)
		call3(NR_madvise, (long)&hub, sizeof(hub), MADV_DONTFORK);
	result = make_channels(&failed);
	find_abilities();
	for (uint32_t slot = 0; slot <= SLOTS; slot++) {
		hub.watches[slot].pidfd = -1;
		hub.polled[slot + 1].fd = -1;
		hub.polled[slot + 1].events = POLLIN;
	}
	/* Without pidfds ends are seen in /proc: where neither is there nothing can be judged. */
	if (!result && !(hub.abilities & PIDFD) && has_ended(&(struct watch){hub.pid, 0, -1, 0})) {
		failed = NR_pidfd_open;
		result = -ENOSYS;
	}
	hub.polled[0] = (struct pollfd){0, POLLIN, 0};
	hub.polled[1] = (struct pollfd){HUB_UP, POLLIN, 0};
	greet(path, page_size, failed, result);
	if (result)
		leave(1);
	for (;;) {
		int is_looking = 0;

		for (uint32_t slot = 1; slot <= hub.highest; slot++)
			/* The end of a traced thread wakes nobody (Linux 6.18): what its pidfd says
			 * must be asked for. */
			is_looking |= hub.watches[slot].pid &&
				      (hub.watches[slot].pidfd < 0 || hub.watches[slot].tid);
		result = wait_for(hub.polled, hub.highest + 2, is_looking ? GLANCE : -1);
		if (result < 0)
			continue;
		/* Looking costs three calls a process: only when nothing else happens. */
		int is_ended = is_looking = is_looking && !result;

		for (uint32_t slot = 1; slot <= hub.highest; slot++)
			is_ended |= hub.polled[slot + 1].revents;
		/* The last answer of a process always comes before the word of its death. */
		if (hub.polled[1].revents || is_ended)
			while (forward_up() && is_ended)
				;
		for (uint32_t slot = 1; is_ended && slot <= hub.highest; slot++) {
			const struct watch *watch = &hub.watches[slot];

			if (!watch->pid)
				continue;
			if (watch->pidfd >= 0 ? hub.polled[slot + 1].revents
					      : is_looking && has_ended(watch))
				take_end(slot);
		}
		if (hub.polled[0].revents && !take_input())
			break;
	}
	clean();
	leave(0);
}
