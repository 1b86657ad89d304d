/*
 * PRoot reads and checks what is to be run by itself, with its own rights, and starts a loader of
 * its own in its place. So execve's checks of permissions, mounts, open writers, names, symbolic
 * links and sizes are PRoot's. Scripts are read by it, too, and execveat, which it doesn't know,
 * isn't.
 */
#include "exec.h"

#include <grp.h>
#include <limits.h>
#include <linux/landlock.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

static void be_a_user(void)
{
	if (setgroups(0, NULL) || setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000))
		fail("setresuid");
}

/* The loader is a file that its owner alone may run. */
static int other_users(void)
{
	return run_as(be_a_user, self, (char *[]){"x", "again", NULL}) == 100 + EACCES;
}

static void lose_rights(void)
{
	struct {
		unsigned version;
		int pid;
	} header = {0x20080522, 0};
	unsigned none[6] = {0};

	chmod(folder, 0);
	syscall(SYS_capset, &header, none);
}

static int folder_without_search(void)
{
	int seen;

	new_folder();
	copy_self();
	if (chown(folder, 1000, 1000))
		fail("chown");
	seen = run_as(lose_rights, path, (char *[]){"x", "again", NULL});
	chmod(folder, 0755);
	return gone(seen == 0);
}

/* For a PRoot of an ordinary user. */
static int unreadable(void)
{
	new_folder();
	copy_self();
	if (chmod(path, 0111))
		fail(path);
	return gone(run(path) == 100 + EACCES);
}

static void lose_dumps(void)
{
	prctl(PR_SET_DUMPABLE, 0);
}

static int undumpable(void)
{
	return run_as(lose_dumps, self, (char *[]){"x", "again", NULL}) == 100 + EFAULT;
}

static int busy_files(void)
{
	int writer, seen;

	new_folder();
	copy_self();
	writer = open(path, O_WRONLY);
	seen = run(path);
	close(writer);
	return gone(seen == 0 && run_as(NULL, path, (char *[]){"x", "open-self", NULL}) == 0);
}

static void mount_here(void)
{
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", folder, "tmpfs", MS_NOEXEC, NULL))
		fail("mount");
	copy_self();
}

static int private_mount(void)
{
	new_folder();
	return gone(run_as(mount_here, path, (char *[]){"x", "again", NULL}) == 100 + ENOENT);
}

static int empty_name(void)
{
	return run("") == 100 + ENOEXEC;
}

static int bound_socket(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};

	new_folder();
	strcpy(name.sun_path, path);
	if (bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&name, sizeof(name)) ||
	    chmod(path, 0755))
		fail(path);
	return gone(run(path) == 100 + ENXIO);
}

/* 255 characters and 4095 are not too many; no such file is there. */
static int long_names(void)
{
	static char component[300] = "/tmp/", whole[PATH_MAX];

	memset(component + 5, 'x', 255);
	memset(whole, '/', PATH_MAX - 2);
	whole[PATH_MAX - 2] = 'x';
	return run(component) == 100 + ENAMETOOLONG && run(whole) == 100 + ENAMETOOLONG;
}

static int forty_links(void)
{
	char links[41][64];
	int seen;

	new_folder();
	copy_self();
	strcpy(links[0], path);
	for (int i = 1; i <= 40; i++) {
		snprintf(links[i], 64, "%s/link%d", folder, i);
		if (symlink(links[i - 1], links[i]))
			fail("symlink");
	}
	seen = run(links[40]);
	for (int i = 1; i <= 40; i++)
		unlink(links[i]);
	return gone(seen == 100 + ELOOP);
}

static void small_stack(void)
{
	struct rlimit one_mib = {1 << 20, 1 << 20};

	setrlimit(RLIMIT_STACK, &one_mib);
}

/* Strings, pointers and the file's name together are more than a quarter of the stack's limit by a
 * hundred bytes: PRoot's loader has a shorter name. */
static int large_arguments(void)
{
	static char text[100000], last[100000], link[256],
		*argv[] = {"x", "again", text, text, last, 0};
	size_t room =
		(1 << 18) - 100 - sizeof("x") - sizeof("again") - 2 * sizeof(text) - sizeof(argv);
	int seen;

	new_folder();
	copy_self();
	memset(text, 'x', sizeof(text) - 1);
	memset(last, 'x', room - 1);
	snprintf(link, sizeof(link), "%s/", folder);
	memset(link + strlen(link), 'x', 200);
	if (symlink(path, link))
		fail(link);
	clearenv();
	seen = run_as(small_stack, link, argv);
	unlink(link);
	return gone(seen == 0);
}

static void no_descriptors(void)
{
	struct rlimit none = {0, 0};

	setrlimit(RLIMIT_NOFILE, &none);
}

static int no_descriptor_left(void)
{
	return run_as(no_descriptors, self, (char *[]){"x", "again", NULL}) == 182;
}

static void have_self_at_40(void)
{
	if (dup3(open(self, O_RDONLY), 40, O_CLOEXEC) < 0)
		fail("dup3");
}

static int program_by_descriptor(void)
{
	return run_as(have_self_at_40, "/proc/self/fd/40", (char *[]){"x", "again", NULL}) == 182;
}

static int execfn_is_argv0(void)
{
	return run_as(NULL, self, (char *[]){"x", "execfn", NULL}) == 1;
}

static void tell_file(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0 || close(fd))
		fail(name);
}

static char rules[80]; /* where binfmt_misc is mounted */

/* In namespaces of its own, where this program is to run files that begin with "text". */
static void register_self(void)
{
	char name[96], rule[256];

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
		fail("unshare");
	tell_file("/proc/self/uid_map", "0 0 1");
	tell_file("/proc/self/setgroups", "deny");
	tell_file("/proc/self/gid_map", "0 0 1");
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", rules, "binfmt_misc", 0, NULL))
		fail("mount");
	snprintf(name, sizeof(name), "%s/register", rules);
	snprintf(rule, sizeof(rule), ":witness:M::text::%s:", self);
	tell_file(name, rule);
}

static int registered_interpreter(void)
{
	int seen;

	new_folder();
	write_script("text", 4);
	snprintf(rules, sizeof(rules), "%s/rules", folder);
	mkdir(rules, 0755);
	seen = run_as(register_self, path, (char *[]){"x", NULL});
	rmdir(rules);
	return gone(seen == 100 + ENOEXEC);
}

/* Nobody writes to it; the opening for execution should be refused at once. */
static int fifo(void)
{
	new_folder();
	if (mkfifo(path, 0755))
		fail(path);
	return gone(run(path) != 100 + EACCES);
}

/* All that is below the folder, and nothing else, may be run. */
static void restrict_to_folder(void)
{
	struct landlock_ruleset_attr handled = {.handled_access_fs = LANDLOCK_ACCESS_FS_EXECUTE};
	struct landlock_path_beneath_attr allowed = {LANDLOCK_ACCESS_FS_EXECUTE,
						     open(folder, O_PATH)};
	int rules = syscall(SYS_landlock_create_ruleset, &handled, sizeof(handled), 0);

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (rules < 0 ||
	    syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &allowed, 0) ||
	    syscall(SYS_landlock_restrict_self, rules, 0))
		fail("landlock");
}

static int loader_elsewhere(void)
{
	new_folder();
	copy_self();
	return gone(run_as(restrict_to_folder, path, (char *[]){"x", "again", NULL}) ==
		    100 + EACCES);
}

static int relative_by_execveat(void)
{
	int status;

	new_folder();
	copy_self();
	if (!fork()) {
		chdir(folder);
		syscall(SYS_execveat, AT_FDCWD, "program", (char *[]){"x", "again", NULL}, environ,
			0);
		_exit(errno == ENOENT ? 9 : 8);
	}
	wait(&status);
	return gone(WEXITSTATUS(status) == 9);
}

/* What execveat runs begins with the stack that PRoot prepares for its loader. */
static int program_of_execveat(void)
{
	int status;

	if (!fork()) {
		syscall(SYS_execveat, open(self, O_PATH), "", (char *[]){"x", "again", NULL},
			environ, AT_EMPTY_PATH);
		_exit(99);
	}
	wait(&status);
	printf("wait status %#x\n", status);
	return status != 0;
}

/* What the new image tells by its exit status. */
static int tell(char **argv)
{
	if (!strcmp(argv[1], "execfn"))
		return strcmp((char *)getauxval(AT_EXECFN), "x") == 0;
	if (!strcmp(argv[1], "open-self"))
		return open("/proc/self/exe", O_WRONLY) < 0;
	return 0;
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"other-users", other_users},
		{"folder-without-search", folder_without_search},
		{"unreadable", unreadable},
		{"undumpable", undumpable},
		{"busy-files", busy_files},
		{"private-mount", private_mount},
		{"empty-name", empty_name},
		{"socket", bound_socket},
		{"long-names", long_names},
		{"forty-links", forty_links},
		{"large-arguments", large_arguments},
		{"no-descriptor-left", no_descriptor_left},
		{"program-by-descriptor", program_by_descriptor},
		{"execfn", execfn_is_argv0},
		{"loader-elsewhere", loader_elsewhere},
		{"relative-by-execveat", relative_by_execveat},
		{"program-of-execveat", program_of_execveat},
		{"registered-interpreter", registered_interpreter},
		{"fifo", fifo},
		{0},
	};

	if (argc > 1 && !strcmp(argv[0], "x"))
		return tell(argv);
	return witness(facts, argc, argv);
}
