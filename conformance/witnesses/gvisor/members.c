/*
 * gVisor's members of pid, network and UTS namespaces. The kernel's pages say: no signal without a
 * handler reaches init from inside; the loopback device of a new network
 * namespace is down, an abstract name of another one is refused as nobody's, and its sockets are
 * not listed; a domain name has up to 64 bytes.
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <arpa/inet.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t new_init(void)
{
	pid_t init = syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);

	if (init < 0)
		fail("a pid namespace");
	return init;
}

static int init_ends_by_its_own_signal(void)
{
	int status;
	pid_t init = new_init();

	if (!init) {
		if (getpid() != 1)
			_exit(2);
		kill(1, SIGTERM);
		_exit(0);
	}
	waitpid(init, &status, 0);
	return WIFSIGNALED(status);
}

static int new_socket(int type, struct sockaddr_un *name)
{
	*name = (struct sockaddr_un){.sun_family = AF_UNIX, .sun_path = "\0namespace-witness"};
	return socket(AF_UNIX, type, 0);
}

/* A listening socket whose name is in no folder, and then a new network namespace. */
static void listen_outside(void)
{
	struct sockaddr_un name;
	int listener = new_socket(SOCK_STREAM, &name);

	if (bind(listener, (struct sockaddr *)&name, sizeof(name)) || listen(listener, 1) ||
	    unshare(CLONE_NEWNET))
		fail("a network namespace");
}

static int abstract_name(void)
{
	struct sockaddr_un name;
	int other;

	listen_outside();
	other = new_socket(SOCK_STREAM, &name);
	return connect(other, (struct sockaddr *)&name, sizeof(name)) && errno == EINVAL;
}

static int open_socket(void)
{
	struct sockaddr_un name;
	int listener = new_socket(SOCK_STREAM, &name);

	if (unshare(CLONE_NEWNET))
		fail("a network namespace");
	return bind(listener, (struct sockaddr *)&name, sizeof(name)) && errno == EINVAL;
}

static int listed_sockets(void)
{
	char line[512];
	int is_there = 0;
	FILE *list;

	listen_outside();
	list = fopen("/proc/net/unix", "r");
	while (list && fgets(line, sizeof(line), list))
		is_there |= strstr(line, "namespace-witness") != NULL;
	return is_there;
}

static int loopback(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(9)};

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (unshare(CLONE_NEWNET))
		fail("a network namespace");
	return !connect(socket(AF_INET, SOCK_DGRAM, 0), (struct sockaddr *)&address,
			sizeof(address));
}

static int domain_name(void)
{
	if (unshare(CLONE_NEWUTS))
		fail("a UTS namespace");
	return setdomainname("before", 6) && errno == ENAMETOOLONG;
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"own-signal", init_ends_by_its_own_signal},
		{"abstract-name", abstract_name},
		{"open-socket", open_socket},
		{"listed-sockets", listed_sockets},
		{"loopback", loopback},
		{"domain-name", domain_name},
		{0},
	};

	return witness(facts, argc, argv);
}
