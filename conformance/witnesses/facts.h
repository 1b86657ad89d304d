/*
 * A witness of several facts, one of which its first argument names. Each function gives 1 where
 * the deviation is there and 0 where it isn't; the exit status is 0 for the deviation and 1 else, 2
 * where it could not be tried.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fact {
	const char *name;
	int (*is_there)(void);
};

static const char *self; /* this program, to be run again */

__attribute__((noreturn, unused)) static void fail(const char *what)
{
	perror(what);
	exit(2);
}

/* Tries the fact that was asked for; the last of the list has no name. */
static int witness(const struct fact *facts, int argc, char **argv)
{
	int is_there;

	self = argv[0];
	for (; facts->name; facts++) {
		if (argc < 2 || strcmp(argv[1], facts->name))
			continue;
		is_there = facts->is_there();
		printf("%s: %s\n", facts->name, is_there ? "the deviation" : "as documented");
		return !is_there;
	}
	fprintf(stderr, "no such fact\n");
	return 2;
}
