/*
 * What the pages of POSIX threads say and the C library does otherwise, as facts.h has it.
 *
 * each-other: two threads that join each other wait for ever. pthread_join(3), ERRORS: EDEADLK.
 * second-joiner: two threads that join the same one wait both. The page says EINVAL.
 * processor-beyond: an attributes object takes a processor outside the set that the kernel
 * supports. pthread_attr_setaffinity_np(3), ERRORS: EINVAL.
 * large-guard: a guard as large as the stack is none of it. pthread_attr_setguardsize(3), BUGS: it
 * is taken out of the stack, so EINVAL.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "facts.h"

#define MIB (1 << 20)

struct joiner {
	pthread_t joins;
	long tid;
	int has_returned;
};

static void *idle(void *nothing)
{
	pause();
	return nothing;
}

static void *join(void *argument)
{
	struct joiner *joiner = argument;

	__atomic_store_n(&joiner->tid, syscall(SYS_gettid), __ATOMIC_SEQ_CST);
	pthread_join(joiner->joins, NULL);
	__atomic_store_n(&joiner->has_returned, 1, __ATOMIC_SEQ_CST);
	return idle(NULL);
}

/* Whether a thread of this process waits. */
static int waits(const struct joiner *joiner)
{
	long tid = __atomic_load_n(&joiner->tid, __ATOMIC_SEQ_CST);
	char path[64], state = 0;
	FILE *stat;

	snprintf(path, sizeof(path), "/proc/self/task/%ld/stat", tid);
	stat = fopen(path, "r");
	if (!stat)
		return 0;
	if (fscanf(stat, "%*d (%*[^)]) %c", &state) != 1)
		state = 0;
	fclose(stat);
	return state == 'S';
}

/* Whether both still wait when they have done so for a while; neither returned. */
static int both_wait(struct joiner *joiners)
{
	int seen = 0;

	for (int looks = 0; looks < 1000 && seen < 50; looks++) {
		usleep(2000);
		if (joiners[0].has_returned || joiners[1].has_returned)
			return 0;
		seen = waits(&joiners[0]) && waits(&joiners[1]) ? seen + 1 : 0;
	}
	if (seen < 50)
		fail("the threads neither wait nor return");
	return 1;
}

static pthread_t started(void *(*begin)(void *), void *argument)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, begin, argument))
		fail("pthread_create");
	return thread;
}

/* Joins what its maker has not stored yet. */
static void *join_later(void *argument)
{
	struct joiner *joiner = argument;

	while (!__atomic_load_n(&joiner->joins, __ATOMIC_SEQ_CST))
		sched_yield();
	return join(argument);
}

static int each_other(void)
{
	static struct joiner joiners[2];
	pthread_t first = started(join_later, &joiners[0]);

	joiners[1].joins = first;
	pthread_t second = started(join, &joiners[1]);

	__atomic_store_n(&joiners[0].joins, second, __ATOMIC_SEQ_CST);
	return both_wait(joiners);
}

static int second_joiner(void)
{
	static struct joiner joiners[2];

	joiners[0].joins = joiners[1].joins = started(idle, NULL);
	started(join, &joiners[0]);
	started(join, &joiners[1]);
	return both_wait(joiners);
}

static int processor_beyond(void)
{
	pthread_attr_t attributes;
	size_t size = CPU_ALLOC_SIZE(8192);
	cpu_set_t *set = CPU_ALLOC(8192);

	CPU_ZERO_S(size, set);
	CPU_SET_S(7000, size, set);
	pthread_attr_init(&attributes);
	return !pthread_attr_setaffinity_np(&attributes, size, set);
}

static int large_guard(void)
{
	pthread_attr_t attributes;
	pthread_t thread;

	pthread_attr_init(&attributes);
	if (pthread_attr_setstacksize(&attributes, MIB) ||
	    pthread_attr_setguardsize(&attributes, MIB))
		fail("the attributes");
	return !pthread_create(&thread, &attributes, idle, NULL);
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"each-other", each_other},
		{"second-joiner", second_joiner},
		{"processor-beyond", processor_beyond},
		{"large-guard", large_guard},
		{0},
	};

	return witness(facts, argc, argv);
}
