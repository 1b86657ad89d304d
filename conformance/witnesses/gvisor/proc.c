/*
 * gVisor's /proc. proc(5) and Linux: the links of who has ended give ENOENT, its status has no
 * sizes and its task folder one entry; files of who was waited for give ESRCH; a descriptor of the
 * memory stays with the old image and reads nothing; smaps and stat have their flags, a thread no
 * exit signal; comm can be written by the threads of the process.
 */
#define _GNU_SOURCE
#include "../facts.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char path[64], text[1 << 16];

static const char *file_of(pid_t pid, const char *name)
{
	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	return path;
}

static char *content(const char *name)
{
	int fd = open(name, O_RDONLY);
	ssize_t length, all = 0;

	if (fd < 0)
		fail(name);
	while ((length = read(fd, text + all, sizeof(text) - 1 - all)) > 0)
		all += length;
	text[all] = 0;
	close(fd);
	return text;
}

/* A field of stat by its number in proc(5), from the third on. */
static long field(const char *stat, int number)
{
	char *at = strrchr(stat, ')');

	while (number-- > 2)
		at = strchr(at + 1, ' ');
	return strtol(at, NULL, 10);
}

static pid_t zombie(void)
{
	siginfo_t info;
	pid_t child = fork();

	if (!child)
		_exit(0);
	if (waitid(P_PID, child, &info, WEXITED | WNOWAIT))
		fail("waitid");
	return child;
}

static int errno_of_link(pid_t pid, const char *name)
{
	int result = readlink(file_of(pid, name), text, sizeof(text));

	printf("%s: %d, %s\n", path, result, strerror(errno));
	return result < 0 ? errno : 0;
}

static int links_of_zombie(void)
{
	pid_t child = zombie();

	return errno_of_link(child, "exe") == EACCES && errno_of_link(child, "cwd") == EACCES &&
	       errno_of_link(child, "root") == EACCES && errno_of_link(child, "ns/pid") == EACCES;
}

static void *waits(void *unused)
{
	pause();
	return unused;
}

static int links_of_leader(void)
{
	pthread_t thread;
	pid_t child = fork();
	int result;

	if (!child) {
		pthread_create(&thread, NULL, waits, NULL);
		syscall(SYS_exit, 0);
	}
	while (!strstr(content(file_of(child, "stat")), ") Z"))
		usleep(1000);
	result = errno_of_link(child, "exe");
	kill(child, SIGKILL);
	return result == EACCES;
}

static int sizes_of_zombie(void)
{
	return strstr(content(file_of(zombie(), "status")), "VmSize") != NULL;
}

static int tasks_of_zombie(void)
{
	DIR *folder = opendir(file_of(zombie(), "task"));
	int entries = 0;

	while (folder && readdir(folder))
		entries++;
	printf("%d entries\n", entries);
	return entries < 3;
}

static int files_after_reaping(void)
{
	pid_t child = fork();
	int fd;

	if (!child)
		pause();
	fd = open(file_of(child, "stat"), O_RDONLY);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return read(fd, text, sizeof(text)) > 0;
}

/* The holder of the descriptor reads the memory when a pipe that exec closes has ended. */
static int memory_after_exec(void)
{
	int memory, has_run[2], result[2], count = 0;
	pid_t child;
	char byte;

	pipe(result);
	child = fork();
	if (!child) {
		memory = open("/proc/self/mem", O_RDONLY);
		pipe2(has_run, O_CLOEXEC);
		if (fork()) {
			close(has_run[0]);
			execl(self, self, "wait", (char *)NULL);
			_exit(1);
		}
		close(has_run[1]);
		read(has_run[0], &byte, 1);
		count = pread(memory, &byte, 1, (long)text);
		write(result[1], &count, sizeof(count));
		_exit(0);
	}
	read(result[0], &count, sizeof(count));
	kill(child, SIGKILL);
	printf("%d bytes\n", count);
	return count != 0;
}

static int no_advice_in_smaps(void)
{
	size_t size = 3 * getpagesize();
	char *pages = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (madvise(pages, size, MADV_DONTFORK))
		fail("madvise");
	return !strstr(content("/proc/self/smaps"), " dc");
}

static int no_wipe_on_fork(void)
{
	size_t size = getpagesize();
	char *page = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return madvise(page, size, 18 /* MADV_WIPEONFORK */) && errno == EINVAL;
}

static int no_coredump_filter(void)
{
	return access("/proc/self/coredump_filter", F_OK) && errno == ENOENT;
}

static int no_flags_in_stat(void)
{
	int status;

	if (!fork())
		_exit(!(field(content("/proc/self/stat"), 9) & 0x40));
	wait(&status);
	return WEXITSTATUS(status);
}

static void *own_file(void *name)
{
	snprintf(path, sizeof(path), "/proc/self/task/%ld/%s", syscall(SYS_gettid), (char *)name);
	return path;
}

static void *own_stat(void *unused)
{
	(void)unused;
	return content(own_file("stat"));
}

static int exit_signal_of_thread(void)
{
	pthread_t thread;
	void *stat;

	pthread_create(&thread, NULL, own_stat, NULL);
	pthread_join(thread, &stat);
	printf("%ld\n", field(stat, 38));
	return field(stat, 38) != -1;
}

static int no_name_for_sibling(void)
{
	snprintf(path, sizeof(path), "/proc/self/task/%d/comm", getpid());
	return write(open(path, O_WRONLY), "new", 3) < 0 && errno == EIO;
}

static void *is_traced_and_ends(void *id)
{
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	write(*(int *)id, (int[]){syscall(SYS_gettid)}, sizeof(int));
	syscall(SYS_exit, 5);
	return NULL;
}

static void on_alarm(int signal)
{
	(void)signal;
}

/* An exec waits for the tracer to hear of the end of a traced thread, and should go on then. */
static int exec_after_traced_thread(void)
{
	struct sigaction action = {.sa_handler = on_alarm};
	int ids[2], id, status, is_over;
	pthread_t thread;
	pid_t child;

	pipe(ids);
	child = fork();
	if (!child) {
		pthread_create(&thread, NULL, is_traced_and_ends, &ids[1]);
		usleep(200000);
		execl(self, self, "again", (char *)NULL);
	}
	read(ids[0], &id, sizeof(id));
	usleep(500000);
	if (waitpid(id, &status, __WALL) != id)
		fail("waitpid");
	sigaction(SIGALRM, &action, NULL);
	alarm(2);
	is_over = waitpid(child, &status, 0) == child;
	kill(child, SIGKILL);
	return !is_over;
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"links-of-zombie", links_of_zombie},
		{"links-of-leader", links_of_leader},
		{"sizes-of-zombie", sizes_of_zombie},
		{"tasks-of-zombie", tasks_of_zombie},
		{"files-after-reaping", files_after_reaping},
		{"memory-after-exec", memory_after_exec},
		{"no-advice-in-smaps", no_advice_in_smaps},
		{"no-wipe-on-fork", no_wipe_on_fork},
		{"no-coredump-filter", no_coredump_filter},
		{"no-flags-in-stat", no_flags_in_stat},
		{"exit-signal-of-thread", exit_signal_of_thread},
		{"no-name-for-sibling", no_name_for_sibling},
		{"exec-after-traced-thread", exec_after_traced_thread},
		{0},
	};

	if (argc > 1 && !strcmp(argv[1], "again"))
		return 0;
	if (argc > 1 && !strcmp(argv[1], "wait"))
		return pause();
	return witness(facts, argc, argv);
}
