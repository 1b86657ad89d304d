/*
 * Limits that gVisor doesn't enforce. fork(2), clone(2), execve(2) and wait(2) say: EAGAIN where
 * the user would have more processes than RLIMIT_NPROC, zombies included; ENOMEM for a copy beyond
 * all memory under heuristic overcommit. Semaphore adjustments are made at the end of a process.
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

/* Whoever runs this beside us counts the processes of another user. */
static uid_t a_new_user(void)
{
	return 100000 + getpid();
}

static void be_at_the_limit(uid_t user)
{
	struct rlimit one = {1, 1};

	if (setrlimit(RLIMIT_NPROC, &one) || setresuid(user, user, user))
		fail("setresuid");
}

static int fork_beyond_nproc(void)
{
	pid_t child;

	be_at_the_limit(a_new_user());
	child = fork();
	if (!child)
		_exit(0);
	return child > 0;
}

/* Two processes of the user are there when a third becomes the user's and execs. */
static int exec_beyond_nproc(void)
{
	uid_t user = a_new_user();
	int status, ready[2];
	char byte;

	if (getenv("AGAIN"))
		return 1;
	if (pipe(ready))
		fail("pipe");
	for (int i = 0; i < 2; i++) {
		if (!fork()) {
			setresuid(user, user, user);
			write(ready[1], "", 1);
			pause();
		}
		read(ready[0], &byte, 1);
	}
	if (!fork()) {
		be_at_the_limit(user);
		setenv("AGAIN", "1", 1);
		execl(self, self, "exec-nproc", (char *)NULL);
		_exit(1);
	}
	wait(&status);
	return WEXITSTATUS(status) == 0;
}

static int fork_beyond_memory(void)
{
	struct sysinfo info;
	size_t half;
	pid_t child;

	sysinfo(&info);
	half = (info.totalram + info.totalswap) * info.mem_unit / 10 * 7;
	for (int i = 0; i < 2; i++)
		if (mmap(NULL, half, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
		    MAP_FAILED)
			fail("mmap");
	child = fork();
	if (!child)
		_exit(0);
	return child > 0;
}

/* The child takes the semaphore's only unit with SEM_UNDO and ends: it should be back. */
static int no_semaphore_undo(void)
{
	struct sembuf take = {0, -1, SEM_UNDO};
	int set = semget(IPC_PRIVATE, 1, 0600), value;

	if (set < 0 || semctl(set, 0, SETVAL, 1))
		fail("semget");
	if (!fork())
		_exit(semop(set, &take, 1));
	wait(NULL);
	value = semctl(set, 0, GETVAL);
	semctl(set, 0, IPC_RMID);
	return value == 0;
}

/* Each page that a child writes first is a fault. */
static int no_faults_counted(void)
{
	char *pages =
		mmap(NULL, 32 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct rusage usage;

	memset(pages, 1, 32 << 12);
	if (!fork()) {
		memset(pages, 2, 32 << 12);
		_exit(0);
	}
	wait4(-1, NULL, 0, &usage);
	printf("%ld faults\n", usage.ru_minflt);
	return usage.ru_minflt == 0;
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"fork-nproc", fork_beyond_nproc},   {"exec-nproc", exec_beyond_nproc},
		{"fork-memory", fork_beyond_memory}, {"semaphore-undo", no_semaphore_undo},
		{"faults", no_faults_counted},	     {0},
	};

	return witness(facts, argc, argv);
}
