/*
 * The control groups of the keeper's descendants: taken down while these live, removed when they
 * have ended. A sandbox that is killed leaves its groups behind, in each hierarchy one.
 */

#define GROUPS 64
#define GROUP_LENGTH 256
#define GROUP_PASSES 20	      /* 2 ms apart: a group is busy for a moment after its last process */
#define FAMILY 1024	      /* descendants whose groups are looked at */
#define PROC_TEXT (64 * 1024) /* the part of a file in /proc that is read */

static struct groups {
	int count;
	int family_size;
	uint64_t family[FAMILY];	  /* the keeper, then its descendants */
	char lines[GROUPS][GROUP_LENGTH]; /* of /proc/PID/cgroup; empty: removed */
	char own[4096];			  /* /proc/self/cgroup */
	char text[PROC_TEXT];
} groups;

/* Gives the number that a text begins with and, in *rest, what follows it; *rest is the text when
 * there is none. */
static uint64_t number_in(const char *text, const char **rest)
{
	uint64_t number = 0;

	while (*text >= '0' && *text <= '9')
		number = number * 10 + (uint64_t)(*text++ - '0');
	*rest = text;
	return number;
}

/* Reads the whole lines of a file, as far as they fit, and ends them with 0. */
static void read_lines(const char *path, char *text, size_t size)
{
	size_t length = 0;
	long got;
	long fd = call4(NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);

	while (fd >= 0 && length < size - 1) {
		got = call3(NR_read, fd, text + length, size - 1 - length);
		if (got <= 0)
			break;
		length += (size_t)got;
	}
	if (fd >= 0)
		call1(NR_close, fd);
	while (length && text[length - 1] != '\n')
		length--;
	text[length] = 0;
}

/* Cuts the next line off a text and gives it, or 0 at the end. */
static char *next_line(char **text)
{
	char *line = *text;
	char *at = line;

	if (!*line)
		return 0;
	while (*at != '\n')
		at++;
	*at = 0;
	*text = at + 1;
	return line;
}

/* The path in a line "NUMBER:CONTROLLERS:PATH", or 0. Outside of the keeper's cgroup namespace it
 * begins with "/..". */
static const char *group_path(const char *line)
{
	for (int colons = 0; *line; line++)
		if (*line == ':' && ++colons == 2)
			return same_start(line + 1, "/") && !same_start(line + 1, "/..") ? line + 1
											 : 0;
	return 0;
}

/* Whether path is a folder in which inner lies, or is the same. */
static int is_above(const char *path, const char *inner)
{
	size_t length = length_of(path);

	return same_text(path, "/") ||
	       (same_start(inner, path) && (!inner[length] || inner[length] == '/'));
}

/* The keeper's own group in the hierarchy of a line, or 0. */
static const char *own_group(const char *line, const char *path)
{
	const char *own = groups.own;

	while (*own) {
		const char *a = own, *b = line;

		while (b < path && *a == *b) {
			a++;
			b++;
		}
		if (b == path)
			return a;
		own += length_of(own) + 1;
	}
	return 0;
}

/* Neither the keeper's own group nor one above it was made for the command. */
static void remember_group(const char *line)
{
	const char *path = group_path(line);
	const char *own = path ? own_group(line, path) : 0;

	if (!own || is_above(path, own) || length_of(line) >= GROUP_LENGTH)
		return;
	for (int i = 0; i < groups.count; i++)
		if (same_text(groups.lines[i], line))
			return;
	if (groups.count < GROUPS) {
		char *group = groups.lines[groups.count++];

		append(group, group + GROUP_LENGTH, line);
	}
}

/* Whether /proc's numbers are ours: a /proc of another pid namespace names strangers. */
static int is_own_proc(int32_t self)
{
	char link[24];
	const char *rest;
	long length = call4(NR_readlinkat, AT_FDCWD, "/proc/self", link, sizeof(link) - 1);

	link[length > 0 ? length : 0] = 0;
	return number_in(link, &rest) == (uint64_t)self;
}

static int is_family(uint64_t pid)
{
	int i = 0;

	while (i < groups.family_size && groups.family[i] != pid)
		i++;
	return i < groups.family_size;
}

/* Adds those whose parent is already known. Gives whether there were any. */
static int extend_family(void)
{
	char entries[2048] __attribute__((aligned(8)));
	int size = groups.family_size;
	const char *rest;
	long length;
	long fd = call4(NR_openat, AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

	if (fd < 0)
		return 0;
	while ((length = call3(NR_getdents64, fd, entries, sizeof(entries))) > 0) {
		for (long at = 0; at < length; at += *(uint16_t *)(entries + at + 16)) {
			const char *name = entries + at + 19;
			uint64_t pid = number_in(name, &rest);

			if (pid && groups.family_size < FAMILY && !is_family(pid) &&
			    is_family(parent_of(name)))
				groups.family[groups.family_size++] = pid;
		}
	}
	call1(NR_close, fd);
	return groups.family_size > size;
}

static void learn_own_groups(void)
{
	read_lines("/proc/self/cgroup", groups.own, sizeof(groups.own));
	for (char *text = groups.own; next_line(&text);)
		;
}

/* Takes down the control groups of all that descends from the keeper. */
static void look_at_groups(int32_t self)
{
	if (!is_own_proc(self))
		return;
	groups.family[0] = (uint64_t)self;
	groups.family_size = 1;
	while (extend_family())
		;
	for (int i = 1; i < groups.family_size; i++) {
		char path[48];
		const char *end = path + sizeof(path);
		char *text = groups.text;
		const char *line;

		append(append_number(append(path, end, "/proc/"), end, groups.family[i]), end,
		       "/cgroup");
		read_lines(path, groups.text, sizeof(groups.text));
		while ((line = next_line(&text)))
			remember_group(line);
	}
}

/* Whether name, up to a comma or colon, is one of the options "a,b,c". */
static int has_option(const char *options, const char *name)
{
	for (;;) {
		size_t i = 0;

		while (options[i] && options[i] != ',' && options[i] == name[i])
			i++;
		if ((!options[i] || options[i] == ',') && (name[i] == ',' || name[i] == ':'))
			return 1;
		while (*options && *options != ',')
			options++;
		if (!*options++)
			return 0;
	}
}

/* Removes one group if a mount shows it. Gives 1 if somebody is still in it. */
static int remove_group(char *group, const char *root, const char *point, const char *options)
{
	char path[1024];
	const char *end = path + sizeof(path);
	const char *controllers = group;
	const char *inner = group_path(group);
	long result;

	while (*controllers++ != ':')
		;
	/* The second version has one hierarchy, without controllers. */
	if (*controllers == ':' ? *options : !has_option(options, controllers))
		return 0;
	if (!is_above(root, inner))
		return 0;
	if (append(append(path, end, point), end, inner + (root[1] ? length_of(root) : 0)) >=
	    end - 1)
		return 0;
	result = call3(NR_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
	if (!result)
		*group = 0;
	return result == -EBUSY || result == -ENOTEMPTY;
}

/*
 * Tries every remembered group in every mount of a line of mountinfo(5):
 * ID PARENT DEVICE ROOT POINT OPTIONS [TAG]... - TYPE SOURCE OPTIONS. Gives the count of busy ones.
 */
static int remove_groups_below(char *line)
{
	const char *words[16];
	int count = 0, dash = 6, busy = 0;

	for (char *at = line; count < 16; at++) {
		words[count++] = at;
		while (*at && *at != ' ')
			at++;
		if (!*at)
			break;
		*at = 0;
	}
	while (dash < count && !same_text(words[dash], "-"))
		dash++;
	if (dash + 3 >= count || !same_start(words[dash + 1], "cgroup"))
		return 0;
	for (int i = 0; i < groups.count; i++)
		if (groups.lines[i][0])
			busy += remove_group(
				groups.lines[i], words[3], words[4],
				same_text(words[dash + 1], "cgroup2") ? "" : words[dash + 3]);
	return busy;
}

/* A group in which somebody lives can't be removed: nothing more is needed to spare those of
 * others. */
static void remove_groups(void)
{
	for (int pass = 0; groups.count && pass < GROUP_PASSES; pass++) {
		char *text = groups.text;
		char *line;
		int busy = 0;

		read_lines("/proc/self/mountinfo", groups.text, sizeof(groups.text));
		while ((line = next_line(&text)))
			busy += remove_groups_below(line);
		if (!busy)
			break;
		wait_for(0, 0, 2000000);
	}
}
