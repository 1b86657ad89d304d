/* The direct children of the caller, by /proc. */

/* Kills each id in a text of numbers and spaces. Gives their count. */
static int kill_listed(long fd)
{
	char text[512];
	uint64_t pid = 0;
	int count = 0;

	for (;;) {
		long length = call3(NR_read, fd, text, sizeof(text));

		if (length <= 0)
			break;
		for (long i = 0; i < length; i++) {
			if (text[i] >= '0' && text[i] <= '9') {
				pid = pid * 10 + (uint64_t)(text[i] - '0');
			} else if (pid) {
				call2(NR_kill, pid, SIGKILL);
				count++;
				pid = 0;
			}
		}
	}
	return count;
}

/* The parent of a process: the second field after its name, which may hold anything and ends at the
 * last bracket. */
static uint64_t parent_of(const char *pid)
{
	char text[512];
	const char *end = text + sizeof(text);
	long length, at = 0;
	uint64_t parent = 0;

	append(append(append(text, end, "/proc/"), end, pid), end, "/stat");
	long fd = call4(NR_openat, AT_FDCWD, text, O_RDONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return 0;
	length = call3(NR_read, fd, text, sizeof(text));
	call1(NR_close, fd);
	for (long i = 0; i < length; i++)
		if (text[i] == ')')
			at = i + 4;
	for (; at && at < length && text[at] >= '0' && text[at] <= '9'; at++)
		parent = parent * 10 + (uint64_t)(text[at] - '0');
	return parent;
}

static int kill_by_parent(int32_t self)
{
	char entries[2048] __attribute__((aligned(8)));
	int count = 0;
	long length;
	long fd = call4(NR_openat, AT_FDCWD, "/proc", O_RDONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return 0;
	while ((length = call3(NR_getdents64, fd, entries, sizeof(entries))) > 0) {
		for (long at = 0; at + 19 < length;) {
			const char *name = entries + at + 19;
			uint64_t pid = 0;

			for (const char *digit = name; *digit >= '0' && *digit <= '9'; digit++)
				pid = pid * 10 + (uint64_t)(*digit - '0');
			if (pid && parent_of(name) == (uint64_t)self) {
				call2(NR_kill, pid, SIGKILL);
				count++;
			}
			at += *(uint16_t *)(entries + at + 16);
		}
	}
	call1(NR_close, fd);
	return count;
}

/*
 * Sends SIGKILL to every direct child of the caller, whose pid is self, and gives their count. What
 * hangs below a child comes to its sub-reaper when the child is dead. /proc must be of the caller's
 * pid namespace.
 */
static int kill_children(int32_t self)
{
	char path[64];
	const char *end = path + sizeof(path);
	char *at = append(path, end, "/proc/self/task/");
	long fd;
	int count;

	append(append_number(at, end, (uint64_t)self), end, "/children");
	fd = call4(NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return kill_by_parent(self);
	count = kill_listed(fd);
	call1(NR_close, fd);
	return count;
}
