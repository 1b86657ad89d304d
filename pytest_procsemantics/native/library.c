/*
 * The library program: a driven process that has the target's C library, whose functions it calls
 * as it is asked.
 *
 * An ordinary program, so unlike the agent's its loop lives on the stack that the process or thread
 * was given. It takes a slot by a welcome as every image does; what it makes by a function that
 * returns twice, or as a thread, goes on in the same loop.
 */

#define _GNU_SOURCE /* RTLD_DEFAULT */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "frames.h"

/* Variadic: right for every function of numbers and addresses on the machines that there are
 * agents for. */
typedef long function(long, ...);

static char rooms[SLOTS + 1][PACKET_LIMIT] __attribute__((aligned(16)));
static struct act acts[HANDLERS];
static struct notes *notes;
static _Thread_local long thread_local_variable = 5;

static long serve(uint32_t slot);

/* --- what functions of the library call --- */

static void note(uint32_t handler, long first, long second)
{
	uint64_t place = __atomic_fetch_add(&notes->count, 1, __ATOMIC_SEQ_CST);
	const struct act *act = &acts[handler];

	if (place < NOTES)
		notes->notes[place] =
			(struct note){handler, (uint32_t)syscall(SYS_gettid), {first, second}};
	if (act->function)
		((function *)act->function)(act->args[0], act->args[1], act->args[2]);
}

#define HANDLER(number)                                       \
	static void handler_##number(long first, long second) \
	{                                                     \
		note(number, first, second);                  \
	}
HANDLER(0)
HANDLER(1)
HANDLER(2)
HANDLER(3)
HANDLER(4)
HANDLER(5)
HANDLER(6)
HANDLER(7)

static void (*const handlers[HANDLERS])(long, long) = {
	handler_0, handler_1, handler_2, handler_3, handler_4, handler_5, handler_6, handler_7,
};

/* --- the way up and down, by raw calls: no cancellation point, and errno stays as it was --- */

static long call6(long number, long a, long b, long c, long d, long e, long f)
{
	int kept = errno;
	long result = syscall(number, a, b, c, d, e, f);

	/* Not after a success: that may have been a store to errno itself. */
	if (result == -1) {
		result = -errno;
		errno = kept;
	}
	return result;
}

static void send_up(struct answer *answer, uint32_t slot, uint32_t kind, int64_t result,
		    uint32_t extra)
{
	answer->channel = slot;
	answer->length = sizeof(*answer) - 8 + extra;
	answer->kind = kind;
	answer->result = result;
	while (call6(SYS_write, UP, (long)answer, sizeof(*answer) + extra, 0, 0, 0) == -EINTR)
		;
}

static void say_hello(uint32_t slot, uint32_t kind, long stack_pointer)
{
	struct hello *hello = (struct hello *)rooms[slot];

	memset(hello, 0, sizeof(*hello));
	hello->pid = (uint32_t)call6(SYS_getpid, 0, 0, 0, 0, 0, 0);
	hello->tid = (uint32_t)call6(SYS_gettid, 0, 0, 0, 0, 0, 0);
	send_up(&hello->answer, slot, kind, stack_pointer, sizeof(*hello) - sizeof(hello->answer));
}

static long next_packet(uint32_t slot, long to, long limit)
{
	long length;

	do
		length = call6(SYS_read, DOWN(slot), to, limit, 0, 0, 0);
	while (length == -EINTR);
	return length;
}

static void load(struct answer *answer, uint32_t slot, long address, long length)
{
	struct iovec parts[2] = {{answer, sizeof(*answer)}, {(void *)address, (size_t)length}};
	long wrote;

	answer->channel = slot;
	answer->length = 0; /* the hub fills it in */
	answer->kind = ANSWER;
	answer->result = length;
	do
		wrote = call6(SYS_writev, UP, (long)parts, 2, 0, 0, 0);
	while (wrote == -EINTR);
	if (wrote < 0)
		send_up(answer, slot, ANSWER, wrote, 0);
}

/* --- steps --- */

/* Whoever execs waits until its welcome is there, else a fast new image would look for it in vain.
 */
static void await_welcome(uint32_t slot)
{
	char first;

	while (call6(SYS_recvfrom, DOWN(slot), (long)&first, 1, MSG_PEEK, 0, 0) == -EINTR)
		;
}

/* Still here: the welcome has nobody to greet. */
static void drop_welcome(uint32_t slot)
{
	char first;

	next_packet(slot, (long)&first, 1);
}

static int64_t exec(const struct request *request, uint32_t slot)
{
	const int64_t *args = request->args;
	int64_t result;

	await_welcome(slot);
	result = call6(request->number, args[0], args[1], args[2], args[3], args[4], args[5]);
	drop_welcome(slot);
	return result;
}

static int64_t touch(const struct request *request)
{
	volatile unsigned char *at = (volatile unsigned char *)request->args[0];

	if (request->args[1])
		*at = (unsigned char)request->args[2];
	return *at;
}

/* Where a child goes on. A child by vfork is still on its parent's stack: nothing that the parent
 * needs may be written in the frame that both came from, so this has one of its own. */
static __attribute__((noinline)) long begin_child(uint32_t slot)
{
	say_hello(slot, HELLO, (long)__builtin_frame_address(0));
	return serve(slot);
}

static void *begin_thread(void *slot)
{
	say_hello((uint32_t)(uintptr_t)slot, HELLO, (long)__builtin_frame_address(0));
	return (void *)serve((uint32_t)(uintptr_t)slot);
}

/* A function of this program's own that is called by name as one of the library's. */
static void *thread_local_location(void)
{
	return &thread_local_variable;
}

/* The address of a function or variable of the library, 0: there is none. glibc links the first
 * three into each program, so no look-up finds them. */
static void *lookup(void *unused, const char *name)
{
	(void)unused;
	if (!strcmp(name, "atexit"))
		return atexit;
	if (!strcmp(name, "at_quick_exit"))
		return at_quick_exit;
	if (!strcmp(name, "pthread_atfork"))
		return pthread_atfork;
	if (!strcmp(name, "thread_local_location"))
		return thread_local_location;
	return dlsym(RTLD_DEFAULT, name);
}

static void tell_table(struct table *table)
{
	*table = (struct table){
		.data_address = (uint64_t)((struct request *)rooms[0])->data,
		.room_size = sizeof(rooms[0]),
		.lookup = (uint64_t)lookup,
		.begin_thread = (uint64_t)begin_thread,
		.handlers = (uint64_t)handlers,
		.acts = (uint64_t)acts,
		.notes = (uint64_t)notes,
	};
}

/* pthread_cleanup_push and pthread_cleanup_pop are the two ends of one block, so what comes between
 * is a loop of its own. */
static __attribute__((noinline)) long serve_with_cleanup(uint32_t slot, void (*handler)(void *),
							 void *value)
{
	long result;

	pthread_cleanup_push(handler, value);
	result = serve(slot);
	pthread_cleanup_pop(0);
	return result;
}

static long serve(uint32_t slot)
{
	struct request *request = (struct request *)rooms[slot];
	/* As in the agent: right before the data that goes back with it. */
	struct answer *answer = (struct answer *)(request->data - sizeof(struct answer));
	const int64_t *args = request->args;

	for (;;) {
		long length = next_packet(slot, (long)request, PACKET_LIMIT);
		int64_t result = -ENOSYS;
		uint32_t out = 0;

		if (length <= 0)
			_exit(99); /* as the agent: the check closed the channel */
		if (length < (long)sizeof(*request))
			continue;

		uint32_t serial = request->serial;

		switch (request->kind) {
		case CALL:
			/* A call that returns twice needs the agent's stacks. */
			if (!request->child)
				result = call6(request->number, args[0], args[1], args[2], args[3],
					       args[4], args[5]);
			out = request->out;
			break;
		case EXEC:
			result = exec(request, slot);
			break;
		case LOAD:
			answer->serial = serial;
			load(answer, slot, args[0], args[1]);
			continue;
		case STORE:
			result = next_packet(slot, args[0], args[1]);
			break;
		case TOUCH:
			result = touch(request);
			break;
		case FUNCTION:
			out = request->out;
			if (request->number == LEAVE_LOOP)
				return args[0];
			if (request->number == TELL_TABLE) {
				tell_table((struct table *)request->data);
				result = 0;
				break;
			}
			if (request->number == PUSH_CLEANUP) {
				void (*handler)(void *) = (void (*)(void *))args[0];
				void *value = (void *)args[1];

				answer->serial = serial;
				send_up(answer, slot, ANSWER, 0, 0);
				return serve_with_cleanup(slot, handler, value);
			}
			/* Its own slot: the function is to lead to an image that takes it. */
			int is_exec = request->child == slot;
			uint32_t child = is_exec || request->child > SLOTS ? 0 : request->child;

			if (is_exec)
				await_welcome(slot);
			result = ((function *)request->number)(args[0], args[1], args[2], args[3],
							       args[4], args[5]);
			if (child && (int)result == 0)
				return begin_child(child);
			if (is_exec)
				drop_welcome(slot);
			if (child)
				result = (int)result == -1 ? -errno : (int)result;
			else
				memcpy(request->data, (int64_t[]){result, errno}, 16);
			/* Whatever a function gave, it is no failure of the step. */
			if (!child && result < 0)
				result = 0;
			break;
		}
		if (out > PACKET_LIMIT - sizeof(*request))
			out = PACKET_LIMIT - sizeof(*request);
		answer->serial = serial;
		send_up(answer, slot, ANSWER, result, out);
	}
}

/* The welcome of driven.h. */
static uint32_t find_welcome(long stack_pointer)
{
	struct request welcome;
	int64_t pid = call6(SYS_getpid, 0, 0, 0, 0, 0, 0);

	for (uint32_t slot = 1; slot <= SLOTS; slot++) {
		long length = call6(SYS_recvfrom, DOWN(slot), (long)&welcome, sizeof(welcome),
				    MSG_PEEK | MSG_DONTWAIT, 0, 0);

		if (length != sizeof(welcome) || welcome.kind != WELCOME ||
		    (welcome.args[0] && welcome.args[0] != pid))
			continue;
		next_packet(slot, (long)&welcome, sizeof(welcome));
		say_hello(slot, welcome.args[0] ? IMAGE : HELLO, stack_pointer);
		return slot;
	}
	return 0;
}

int main(int argc, char **argv)
{
	(void)argc;
	notes = mmap(0, sizeof(*notes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (notes == MAP_FAILED)
		return 97;

	/* The kernel put argc right before argv. */
	uint32_t slot = find_welcome((long)(argv - 1));

	return slot ? (int)serve(slot) : 98;
}
