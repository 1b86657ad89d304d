/*
 * Rounds on request, so that two programs can be measured by turns: each line of standard input is
 * a number of repetitions, and the answer is a line with the nanoseconds of one of them.
 */

#include <stdint.h>
#include <stdio.h>
#include <time.h>

static int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void serve_rounds(void (*once)(void))
{
	int count;

	while (scanf("%d", &count) == 1 && count > 0) {
		int64_t begin = now();

		for (int i = 0; i < count; i++)
			once();
		printf("%lld\n", (long long)((now() - begin) / count));
		fflush(stdout);
	}
}
