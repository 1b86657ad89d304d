/*
 * The exchange of one step in C: a request to the hub, which passes it to a driven process, and its
 * answer back.
 *
 * Usage: step AGENT poll|read. Starts the agent's hub on two pipes and makes a root process; then
 * rounds.h. The frames are those of pytest_procsemantics/native/frames.h, which this file includes.
 * "poll" waits with a deadline before it reads, as every driver must; "read" only reads, and would
 * wait for a dead target for ever.
 */

#define _GNU_SOURCE
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frames.h"
#include "rounds.h"

#define SLOT 1
#define WAIT 10000 /* milliseconds */

struct frame {
	uint32_t channel;
	uint32_t length;
	struct request request;
};

static int to_hub, from_hub;
static int is_polling;

static void give_up(const char *text)
{
	fprintf(stderr, "step: %s\n", text);
	exit(1);
}

static void ask(uint32_t channel, uint32_t kind, uint32_t serial, int64_t number)
{
	struct frame frame;

	memset(&frame, 0, sizeof(frame));
	frame.channel = channel;
	frame.length = sizeof(frame.request);
	frame.request.kind = kind;
	frame.request.serial = serial;
	frame.request.number = number;
	if (write(to_hub, &frame, sizeof(frame)) != sizeof(frame))
		give_up("the hub takes nothing");
}

/* Takes the next frame, which has exactly `size` bytes: one request, one answer, so nothing else
 * can lie behind it. */
static void take(void *frame, size_t size)
{
	struct pollfd polled = {from_hub, POLLIN, 0};
	size_t held = 0;

	while (held < size) {
		if (is_polling && poll(&polled, 1, WAIT) != 1)
			give_up("no answer in time");
		ssize_t got = read(from_hub, (char *)frame + held, size - held);

		if (got <= 0)
			give_up("the stream ended");
		held += (size_t)got;
	}
}

static int64_t step(uint32_t serial)
{
	struct answer answer;

	ask(SLOT, CALL, serial, SYS_getpid);
	take(&answer, sizeof(answer));
	if (answer.channel != SLOT || answer.kind != ANSWER || answer.serial != serial)
		give_up("not the answer that was asked for");
	return answer.result;
}

static pid_t start(const char *agent)
{
	int down[2], up[2];
	pid_t child;

	if (pipe(down) || pipe(up))
		give_up("no pipe");
	child = fork();
	if (!child) {
		dup2(down[0], 0);
		dup2(up[1], 1);
		close(down[1]);
		close(up[0]);
		execl(agent, agent, "--procsem-hub", (char *)NULL);
		_exit(127);
	}
	close(down[0]);
	close(up[1]);
	to_hub = down[1];
	from_hub = up[0];
	return child;
}

static uint32_t serial;
static pid_t driven;

static void once(void)
{
	if (step(++serial) != driven)
		give_up("not the process's pid");
}

int main(int argc, char **argv)
{
	char first[sizeof(preamble)];
	struct greeting greeting;
	struct hello hello;
	int status;

	if (argc != 3)
		give_up("usage: step AGENT poll|read");
	is_polling = !strcmp(argv[2], "poll");
	pid_t hub = start(argv[1]);

	take(first, sizeof(first));
	take(&greeting, sizeof(greeting));
	if (memcmp(first, preamble, sizeof(preamble)) || greeting.protocol != PROTOCOL)
		give_up("no greeting of this protocol");
	ask(0, NEW_ROOT, 0, SLOT);
	take(&hello, sizeof(hello));
	driven = (pid_t)hello.pid;
	serve_rounds(once);
	close(to_hub);
	waitpid(hub, &status, 0);
	return status != 0;
}
