/*
 * Removes a tree of folders, however deep, with two descriptors and a few kilobytes of stack.
 *
 * Nothing is descended into: the full folders in a folder below the top are moved up to the top and
 * have their turn there, under numbers as names, so that they are a queue without memory. No
 * symbolic link is followed and no mount point is entered.
 */

#define TREE_PASSES                                                                                \
	(1 << 20) /* over the top folder: somebody who adds to the tree all the time must not hold \
		     us */
#define MOVE_TRIES 64 /* new names that somebody has already taken */

struct tree {
	int top;
	uint64_t device; /* the file system of the top folder */
	uint64_t moved;	 /* up so far: the names are numbers from 0 */
	uint64_t done;	 /* of these */
	long removed;	 /* in this pass, moved ones too */
	long error;	 /* the first of this pass */
};

/* struct stat begins with the device on every architecture. */
static uint64_t device_of(int fd)
{
	uint64_t stat[32] = {0};

	call2(NR_fstat, fd, stat);
	return stat[0];
}

/*
 * Opens a folder and makes it one that its owner can change. It may have been replaced meanwhile,
 * and chmod of a name would follow a symbolic link: everything goes by a handle, which needs no
 * permission.
 */
static long open_folder(int parent, const char *name, uint64_t device)
{
	char path[32] = "/proc/self/fd/";
	long handle =
		call4(NR_openat, parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	long fd;

	if (handle < 0)
		return handle;
	if (device && device_of((int)handle) != device) {
		call1(NR_close, handle);
		return -EXDEV;
	}
	fd = call4(NR_openat, handle, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd == -EACCES) {
		append_number(path + length_of(path), path + sizeof(path), (uint64_t)handle);
		call3(NR_fchmodat, AT_FDCWD, path, 0700);
		fd = call4(NR_openat, handle, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	}
	if (fd >= 0)
		call2(NR_fchmod, fd, 0700);
	call1(NR_close, handle);
	return fd;
}

/*
 * Removes a file, a symbolic link or an empty folder. Gives -ENOTEMPTY for a folder that must be
 * emptied first, and for nothing else: a mount point says EBUSY, also where it shows a folder of
 * the same device.
 */
static long remove_entry(int parent, const char *name)
{
	long as_file = call3(NR_unlinkat, parent, name, 0);
	long as_folder;

	if (!as_file || as_file == -ENOENT)
		return 0;
	as_folder = call3(NR_unlinkat, parent, name, AT_REMOVEDIR);
	if (as_folder == -ENOTDIR)
		return as_file;
	if (as_folder == -EEXIST)
		return -ENOTEMPTY;
	return as_folder == -ENOENT ? 0 : as_folder;
}

static long move_up(struct tree *tree, int parent, const char *name)
{
	char number[24];
	long result = -EEXIST;
	/* A folder that changes its parent must be one that can be written. */
	long fd = open_folder(parent, name, tree->device);

	if (fd < 0)
		return fd;
	call1(NR_close, fd);
	for (int i = 0; i < MOVE_TRIES; i++) {
		append_number(number, number + sizeof(number), tree->moved++);
		result = call5(NR_renameat2, parent, name, tree->top, number, 0);
		if (result != -EEXIST && result != -ENOTEMPTY && result != -ENOTDIR)
			break;
	}
	return result;
}

static long remove_below_top(struct tree *tree, const char *name);

/* One pass over a folder. What a file system doesn't list while entries vanish has its turn in the
 * next pass. */
static void empty_folder(struct tree *tree, int folder)
{
	char entries[2048] __attribute__((aligned(8)));
	long length, result;

	while ((length = call3(NR_getdents64, folder, entries, sizeof(entries))) > 0) {
		for (long at = 0; at < length; at += *(uint16_t *)(entries + at + 16)) {
			const char *name = entries + at + 19;

			if (same_text(name, ".") || same_text(name, ".."))
				continue;
			result = remove_entry(folder, name);
			if (result == -ENOTEMPTY)
				result = folder == tree->top ? remove_below_top(tree, name)
							     : move_up(tree, folder, name);
			if (!result)
				tree->removed++;
			else if (!tree->error)
				tree->error = result;
		}
	}
	if (length < 0 && length != -ENOENT && !tree->error)
		tree->error = length;
}

static long remove_below_top(struct tree *tree, const char *name)
{
	long fd = open_folder(tree->top, name, tree->device);

	if (fd < 0)
		return fd;
	empty_folder(tree, (int)fd);
	call1(NR_close, fd);
	return remove_entry(tree->top, name);
}

/* A number may be gone already, or another's name: what remains shows in the next pass over the
 * top. */
static void remove_moved(struct tree *tree)
{
	char number[24];

	while (tree->done < tree->moved) {
		append_number(number, number + sizeof(number), tree->done++);
		remove_below_top(tree, number);
	}
}

/*
 * Removes what path names, with all below it. The owner's missing permissions are no obstacle; what
 * vanishes by itself is no error. Gives 0, or the first -errno of what is left.
 */
static long remove_tree(int parent, const char *path)
{
	struct tree tree = {0};
	long result = remove_entry(parent, path);

	if (result != -ENOTEMPTY)
		return result;
	result = open_folder(parent, path, 0);
	if (result < 0)
		return result == -ENOENT ? 0 : result;
	tree.top = (int)result;
	tree.device = device_of(tree.top);
	for (int pass = 0; pass < TREE_PASSES; pass++) {
		tree.removed = 0;
		tree.error = 0;
		call3(NR_lseek, tree.top, 0, 0);
		empty_folder(&tree, tree.top);
		remove_moved(&tree);
		if (!tree.removed)
			break;
	}
	call1(NR_close, tree.top);
	result = remove_entry(parent, path);
	return result && tree.error ? tree.error : result;
}
