/*
 * PRoot reads scripts by itself. execve(2) says: an interpreter's argument ends with the line or
 * the file, a line counts up to 255 bytes, a script may be the interpreter of another to a depth of
 * four.
 */
#include "exec.h"

/* Runs a script whose interpreter is this program: what it says, see tell(). */
static int run_script(const char *rest, size_t size)
{
	char text[1024];
	int length = snprintf(text, sizeof(text), "#!%s", self);

	memcpy(text + length, rest, size);
	new_folder();
	write_script(text, length + size);
	return gone(run_as(NULL, path, (char *[]){path, NULL}));
}

static int script_without_newline(void)
{
	return run_script(" count", 6) != 3;
}

/* What stands behind the NUL is no argument. */
static int script_with_nul(void)
{
	return run_script("\0 count\n", 8) == 3;
}

static int script_of_a_long_line(void)
{
	char rest[600] = " count";

	memset(rest + 6, 'x', sizeof(rest) - 6);
	rest[599] = '\n';
	return run_script(rest, sizeof(rest)) != 3;
}

static int script_of_a_long_interpreter(void)
{
	char text[600] = "#!/";

	memset(text + 3, 'x', 250);
	memset(text + 253, '/', 346);
	text[599] = '\n';
	new_folder();
	write_script(text, sizeof(text));
	return gone(run(path) == 100 + ENOENT);
}

static int script_after_script(void)
{
	char text[128], names[7][64];
	int seen;

	new_folder();
	copy_self();
	strcpy(names[0], path);
	for (int i = 1; i < 7; i++) {
		int fd;

		snprintf(names[i], 64, "%s/script%d", folder, i);
		snprintf(text, sizeof(text), "#!%s\n", names[i - 1]);
		fd = open(names[i], O_WRONLY | O_CREAT, 0755);
		write(fd, text, strlen(text));
		close(fd);
	}
	seen = run(names[6]);
	for (int i = 1; i < 7; i++)
		unlink(names[i]);
	return gone(seen != 100 + ELOOP);
}

/* What the interpreter tells by its exit status: it should be given one argument, of no more than
 * 253 bytes with its own name, and the script's name. */
static int tell(int argc, char **argv)
{
	if (!strcmp(argv[1], "count"))
		return argc;
	return strlen(argv[0]) + 1 + strlen(argv[1]) == 253 ? argc : 9;
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"without-newline", script_without_newline},
		{"with-nul", script_with_nul},
		{"long-line", script_of_a_long_line},
		{"long-interpreter", script_of_a_long_interpreter},
		{"after-script", script_after_script},
		{0},
	};

	if (argc > 1 && !strncmp(argv[1], "count", 5))
		return tell(argc, argv);
	if (argc > 1 && !strcmp(argv[0], "x"))
		return 0;
	return witness(facts, argc, argv);
}
