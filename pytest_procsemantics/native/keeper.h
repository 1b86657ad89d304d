/*
 * The keeper: stands on the host in front of a target's command, and ends and removes all of it in
 * the end, whatever becomes of the driver or of the command.
 *
 *   agent --procsem-keeper CONTROL_FD DRIVER_PIDFD RUN_FOLDER AGENT_SOURCE -- COMMAND...
 *
 * CONTROL_FD is the reading end of a pipe: its end or a byte means "end the command", the byte 'k'
 * "at once". DRIVER_PIDFD is -1 where the kernel has none. RUN_FOLDER is an absolute path and must
 * not be there: the keeper makes it, with a copy of AGENT_SOURCE in it that any user can run, and
 * gives it to the command as TMPDIR. COMMAND begins with a path. Its input, output and errors are
 * the keeper's own 0, 1 and 2, which the keeper closes.
 *
 * The end comes in stages: time to see the end of its input, SIGTERM, SIGKILL for all. Some
 * sandboxes clean up after the first two and never after the third, so what they leave is removed
 * here: the run folder and the control groups.
 *
 * Exit status: 0 after an end that was asked for; else the command's own, or 128 + the signal that
 * ended it; and:
 */
#define KEEPER_REMAINS 124  /* something could not be ended or removed */
#define KEEPER_FAILED 125   /* wrong arguments or no run folder: the reason is on standard error */
#define KEEPER_NO_START 127 /* the command can't be executed: the reason is on standard error */

#include "groups.h"

/* Milliseconds. */
#define GRACE 1000	 /* between the end of the command's input and SIGTERM */
#define SETTLE 1000	 /* between SIGTERM and SIGKILL */
#define HURRY_SETTLE 100 /* the same after 'k' */
#define PATIENCE 30000	 /* after SIGKILL: for another user's, or what hangs in the kernel */
#define TICK 100	 /* for what can only be polled */
#define FIRST_LOOK 250	 /* at the control groups; each further look after twice the time */
#define LAST_LOOK 64000

#define FOLDER_LENGTH 4000 /* bytes of RUN_FOLDER */

/* What was asked for; a greater one never goes back to a lesser one. */
enum wish { GO_ON, END, END_BY_SIGNAL, END_AT_ONCE, NEVER };

static struct keeper {
	int control; /* -1: at its end */
	int driver;  /* pidfd, -1: none, or gone */
	int signals; /* signalfd, -1: the kernel has none */
	int started; /* its end: the command runs; before it: execve's errno; -1: known */
	int failure; /* that errno */
	int32_t self;
	int32_t parent;	 /* the driver */
	int32_t command; /* 0: reaped */
	int32_t status;	 /* the command's, as wait4 gives it */
	enum wish wish;
	char copied[16 * 1024];
	char temporary[FOLDER_LENGTH + 96]; /* TMPDIR=RUN_FOLDER */
} keeper;

static void complain(const char *what, long error)
{
	char line[512] = {0};
	const char *end = line + sizeof(line);
	char *at = append(line, end - 32, "procsem-keeper: ");

	at = append(at, end - 32, what);
	if (error)
		at = append_number(append(at, end, ": errno "), end, (uint64_t)-error);
	append(at, end, "\n");
	write_all(2, line, length_of(line));
}

static int64_t milliseconds(void)
{
	struct timespec now = {0, 0};

	call2(NR_clock_gettime, CLOCK_MONOTONIC, &now);
	return now.seconds * 1000 + now.nanoseconds / 1000000;
}

/* --- the command --- */

/* Reaps all that has ended, orphans too. Gives their count, or -ECHILD. */
static long reap(void)
{
	int32_t status;

	for (long count = 0;; count++) {
		long pid = call4(NR_wait4, -1, &status, WNOHANG | WALL, 0);

		if (pid <= 0)
			return pid == -ECHILD ? pid : count;
		if (pid == keeper.command) {
			keeper.command = 0;
			keeper.status = status;
		}
	}
}

/* Takes the word about the command's execve. Standard error is closed after a good start: its
 * reader waits for the end. */
static void learn_start(void)
{
	int32_t failure = 0;

	if (keeper.started < 0)
		return;
	if (call3(NR_read, keeper.started, &failure, sizeof(failure)) > 0)
		keeper.failure = failure;
	else
		call1(NR_close, 2);
	call1(NR_close, keeper.started);
	keeper.started = -1;
}

static void wish_for(enum wish wish)
{
	if (wish > keeper.wish)
		keeper.wish = wish;
}

static void take_signals(void)
{
	uint32_t signal[32]; /* struct signalfd_siginfo; the number comes first */

	while (call3(NR_read, keeper.signals, signal, sizeof(signal)) == sizeof(signal))
		if (signal[0] != SIGCHLD)
			wish_for(END_BY_SIGNAL);
}

static void take_control(void)
{
	char byte = 0;

	if (call3(NR_read, keeper.control, &byte, 1) <= 0)
		keeper.control = -1;
	wish_for(byte == 'k' ? END_AT_ONCE : END);
}

/* Waits until something happens, at most so long. */
static void listen_for(int64_t time)
{
	int is_polling = keeper.driver < 0 || keeper.signals < 0;
	struct pollfd polled[] = {
		{keeper.control, POLLIN, 0},
		{keeper.driver, POLLIN, 0},
		{keeper.signals, POLLIN, 0},
		{keeper.started, POLLIN, 0},
	};

	if (is_polling && time > TICK)
		time = TICK;
	wait_for(polled, sizeof(polled) / sizeof(polled[0]), time * 1000000);
	if (polled[3].revents)
		learn_start();
	if (polled[2].revents)
		take_signals();
	reap();
	/* A command that ended by itself did so before anybody asked: its own status counts. */
	if (!keeper.command)
		return;
	if (polled[0].revents)
		take_control();
	if (polled[1].revents || (keeper.driver < 0 && call0(NR_getppid) != keeper.parent)) {
		keeper.driver = -1;
		wish_for(END);
	}
}

/* Waits until the command has ended, or so much is asked for, or the time is over. */
static void await_command(enum wish wish, int64_t time)
{
	int64_t now = milliseconds();
	int64_t end = now + time;

	for (; keeper.command && keeper.wish < wish && now < end; now = milliseconds())
		listen_for(end - now);
}

/*
 * Ends every child until the kernel says that there is none: where orphans come to the keeper that
 * is the proof that nothing is left. A child's number can't be another's before the keeper has
 * reaped it. Gives whether all have ended.
 */
static int end_all(void)
{
	int64_t end = milliseconds() + PATIENCE;
	int64_t pause = 50000;

	for (;;) {
		long reaped = reap();

		if (reaped == -ECHILD)
			return 1;
		if (milliseconds() > end)
			return 0;
		if (keeper.command)
			call2(NR_kill, keeper.command, SIGKILL);
		if (is_own_proc(keeper.self))
			kill_children(keeper.self);
		wait_for(0, 0, pause);
		pause = reaped ? 50000 : pause < 50000000 ? pause * 2 : pause;
	}
}

/* In the child. The arguments move down by one, over the "--", which makes room in front of the
 * environment: it follows their closing 0. */
static void __attribute__((noreturn)) run_command(int argc, char **argv, char **envp, int report)
{
	char *volatile *to = argv + 6;
	uint64_t nothing = 0;
	int32_t error;

	for (int i = 7; i < argc; i++)
		*to++ = argv[i];
	*to++ = 0;
	*to++ = keeper.temporary;
	for (; *envp; envp++)
		if (!same_start(*envp, "TMPDIR="))
			*to++ = *envp;
	*to = 0;
	call0(NR_setsid);
	call1(NR_close, keeper.control);
	call1(NR_close, keeper.driver);
	call4(NR_rt_sigprocmask, SIG_SETMASK, &nothing, 0, 8);
	error = (int32_t)call3(NR_execve, argv[6], argv + 6, argv + argc);
	write_all(report, &error, sizeof(error));
	leave(KEEPER_NO_START);
}

static void start(int argc, char **argv, char **envp)
{
	int32_t pipe[2];
	long result = call2(NR_pipe2, pipe, O_CLOEXEC);

	if (!result)
		result = call5(NR_clone, SIGCHLD, 0, 0, 0, 0);
	if (!result)
		run_command(argc, argv, envp, pipe[1]);
	if (result < 0) {
		keeper.failure = (int)result;
		return;
	}
	keeper.command = (int32_t)result;
	keeper.started = pipe[0];
	call1(NR_close, pipe[1]);
	call1(NR_close, 0);
	call1(NR_close, 1);
}

/* --- the run folder --- */

/* Copies a file byte for byte, whatever the umask. Nobody can still have it open for writing when
 * it is executed. */
static long copy(const char *from, const char *to)
{
	long got, result;
	long in = call4(NR_openat, AT_FDCWD, from, O_RDONLY | O_CLOEXEC, 0);
	long out;

	if (in < 0)
		return in;
	out = call4(NR_openat, AT_FDCWD, to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	if (out < 0)
		return out;
	do {
		got = result = call3(NR_read, in, keeper.copied, sizeof(keeper.copied));
		if (got > 0)
			result = write_all((int)out, keeper.copied, (size_t)got);
	} while (got > 0 && !result);
	if (!result)
		result = call2(NR_fchmod, out, 0755);
	call1(NR_close, in);
	call1(NR_close, out);
	return result;
}

static void make_run_folder(const char *folder, const char *agent)
{
	char *end = keeper.temporary + sizeof(keeper.temporary);
	char *at = append(append(keeper.temporary, end, "TMPDIR="), end, folder);
	long result = call3(NR_mkdirat, AT_FDCWD, folder, 0755);

	if (result) {
		complain(folder, result);
		leave(KEEPER_FAILED);
	}
	result = call3(NR_fchmodat, AT_FDCWD, folder, 0755);
	append(at, end, "/agent");
	if (!result)
		result = copy(agent, keeper.temporary + 7);
	*at = 0;
	if (result) {
		complain(agent, result);
		remove_tree(AT_FDCWD, folder);
		leave(KEEPER_FAILED);
	}
}

/* --- the whole --- */

static void take_arguments(int argc, char **argv)
{
	const char *control_end, *driver_end;

	if (argc > 7) {
		keeper.control = (int)number_in(argv[2], &control_end);
		keeper.driver = (int)number_in(argv[3], &driver_end);
		if (same_text(argv[3], "-1")) {
			keeper.driver = -1;
			driver_end += 2;
		}
	}
	if (argc <= 7 || keeper.control < 3 || *control_end || *driver_end || argv[4][0] != '/' ||
	    length_of(argv[4]) > FOLDER_LENGTH || !same_text(argv[6], "--")) {
		complain("usage: --procsem-keeper CONTROL_FD DRIVER_PIDFD|-1 /RUN_FOLDER "
			 "AGENT_SOURCE -- COMMAND...",
			 0);
		leave(KEEPER_FAILED);
	}
}

/* Every signal is blocked: nothing but SIGKILL ends a keeper, and four ask it to end the command.
 */
static void set_up(void)
{
	uint64_t all = ~0ULL;
	uint64_t heard = 1ULL << (SIGCHLD - 1) | 1ULL << (SIGHUP - 1) | 1ULL << (SIGINT - 1) |
			 1ULL << (SIGQUIT - 1) | 1ULL << (SIGTERM - 1);
	long result;

	keeper.self = (int32_t)call0(NR_getpid);
	keeper.parent = (int32_t)call0(NR_getppid);
	keeper.started = -1;
	call4(NR_rt_sigprocmask, SIG_SETMASK, &all, 0, 8);
	for (int signal = 1; signal <= SIGNALS; signal++) {
		uint64_t by_default[4] = {0};

		call4(NR_rt_sigaction, signal, by_default, 0, 8);
	}
	call0(NR_setsid);
	keeper.signals = (int)call4(NR_signalfd4, -1, &heard, 8, O_CLOEXEC | O_NONBLOCK);
	result = call5(NR_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	if (result)
		complain("no sub-reaper here: orphans of the command may survive", result);
	learn_own_groups();
}

static void __attribute__((noreturn)) keep(int argc, char **argv, char **envp)
{
	int status, remains;

	take_arguments(argc, argv);
	set_up();
	make_run_folder(argv[4], argv[5]);
	start(argc, argv, envp);

	for (int64_t look = FIRST_LOOK; keeper.command && keeper.wish == GO_ON;
	     look = look < LAST_LOOK ? look * 2 : look) {
		await_command(END, look);
		look_at_groups(keeper.self);
	}
	await_command(END_BY_SIGNAL, GRACE);
	if (keeper.command) {
		call2(NR_kill, keeper.command, SIGTERM);
		call2(NR_kill, keeper.command, SIGCONT);
	}
	await_command(END_AT_ONCE, SETTLE);
	await_command(NEVER, keeper.wish == END_AT_ONCE ? HURRY_SETTLE : 0);
	look_at_groups(keeper.self);

	remains = !end_all();
	if (!keeper.command)
		learn_start();
	remove_groups();
	if (remove_tree(AT_FDCWD, argv[4]))
		remains = 1;
	if (keeper.failure)
		complain(argv[7], keeper.failure);

	status = keeper.status & 127 ? 128 + (keeper.status & 127) : keeper.status >> 8 & 255;
	if (keeper.wish != GO_ON)
		status = 0;
	if (keeper.failure)
		status = KEEPER_NO_START;
	leave(remains ? KEEPER_REMAINS : status);
}
