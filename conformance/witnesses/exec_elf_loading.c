/*
 * How a kernel loads ELF files of x86_64, where it does otherwise than Linux. Linux maps segments
 * in any order and over each other, refuses bad headers and interpreters each with its errno, kills
 * by SIGSEGV when a segment can't be mapped after the old image is gone, gives an interpreter at a
 * fixed address AT_BASE 0, makes the stack executable as PT_GNU_STACK says, and loads what is
 * position-independent at varying addresses.
 *
 * Each fact changes a program of one segment, the whole file, that exits with 7.
 */
#define _GNU_SOURCE
#include "facts.h"

#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BASE 0x10000000
#define CODE 0x400 /* where the code stands in the file */
#define TEXT 0x500 /* and where texts do */
#define SIZE 0x600

static struct {
	Elf64_Ehdr header;
	Elf64_Phdr segments[8];
} file;
static char texts[SIZE - TEXT];
static char code[TEXT - CODE] = "\xb8\xe7\0\0\0\xbf\7\0\0\0\x0f\5"; /* exit_group(7) */
static char folder[] = "/tmp/witness-XXXXXX";

static Elf64_Phdr *add_segment(uint32_t type)
{
	Elf64_Phdr *segment = &file.segments[file.header.e_phnum++];

	segment->p_type = type;
	segment->p_flags = PF_R | PF_W | PF_X;
	segment->p_align = 0x1000;
	return segment;
}

static void add_interpreter(const char *path, size_t length)
{
	Elf64_Phdr *segment = add_segment(PT_INTERP);

	memcpy(texts, path, length);
	segment->p_offset = TEXT;
	segment->p_vaddr = BASE + TEXT;
	segment->p_filesz = segment->p_memsz = length;
	segment->p_align = 1;
}

/* The program as it runs everywhere; the caller is in a new folder from here on. */
static Elf64_Phdr *begin_program(void)
{
	Elf64_Phdr *segment;

	if (!mkdtemp(folder) || chdir(folder))
		fail(folder);
	memcpy(file.header.e_ident, "\177ELF\2\1\1", 7);
	file.header.e_type = ET_EXEC;
	file.header.e_machine = EM_X86_64;
	file.header.e_version = 1;
	file.header.e_entry = BASE + CODE;
	file.header.e_phoff = sizeof(Elf64_Ehdr);
	file.header.e_ehsize = sizeof(Elf64_Ehdr);
	file.header.e_phentsize = sizeof(Elf64_Phdr);
	segment = add_segment(PT_LOAD);
	segment->p_vaddr = BASE;
	segment->p_filesz = segment->p_memsz = SIZE;
	return segment;
}

static void write_file(const char *name, const void *content, size_t length)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0755);

	if (fd < 0 || write(fd, content, length) != (ssize_t)length || close(fd))
		fail(name);
}

static size_t size = SIZE; /* of the file */

static void write_program(const char *name)
{
	static char content[SIZE];

	memcpy(content, &file, sizeof(file));
	memcpy(content + CODE, code, sizeof(code));
	memcpy(content + TEXT, texts, sizeof(texts));
	write_file(name, content, size);
}

#define EXITED(code) ((code) << 8)
#define REFUSED(error) (0x10000 | (error))

/* Runs the program: its wait status, EXITED(code) or a signal, or REFUSED(errno) of execve. */
static int run_program(void)
{
	int status, ends[2], error = 0;
	char path[64];
	pid_t child;

	write_program("program");
	snprintf(path, sizeof(path), "%s/program", folder);
	if (pipe2(ends, O_CLOEXEC))
		fail("pipe2");
	child = fork();
	if (!child) {
		execl(path, path, "again", (char *)NULL);
		error = errno;
		write(ends[1], &error, sizeof(error));
		_exit(1);
	}
	close(ends[1]);
	read(ends[0], &error, sizeof(error));
	waitpid(child, &status, 0);
	if (error)
		printf("execve: %s\n", strerror(error));
	else
		printf("wait status %#x\n", status);
	return error ? REFUSED(error) : status;
}

static int end(int is_there)
{
	unlink("program");
	unlink("interpreter");
	chdir("/");
	rmdir(folder);
	return is_there;
}

/* Whether the program fares otherwise than on Linux. */
static int fares_not(int as_on_linux)
{
	return end(run_program() != as_on_linux);
}

static int beyond_user_space(void)
{
	begin_program()->p_vaddr = 1UL << 63;
	return fares_not(SIGSEGV);
}

static int more_in_the_file(void)
{
	begin_program()->p_memsz = SIZE - 1;
	return fares_not(SIGSEGV);
}

static int overlapping_segments(void)
{
	begin_program();
	*add_segment(PT_LOAD) = file.segments[0];
	return fares_not(EXITED(7));
}

static int descending_segments(void)
{
	begin_program();
	*add_segment(PT_LOAD) = file.segments[0];
	file.segments[0].p_vaddr += 0x100000;
	return fares_not(EXITED(7));
}

/* Nothing of it is in the file: Linux makes it writable whatever its flags are. */
static int segment_without_bytes(void)
{
	Elf64_Phdr *segment;

	begin_program();
	segment = add_segment(PT_LOAD);
	segment->p_vaddr = 0x12000000;
	segment->p_memsz = 4096;
	segment->p_flags = PF_R;
	memmove(code + 8, code, 12);
	memcpy(code, "\xc6\x04\x25\0\0\0\x12\1", 8); /* movb $1, 0x12000000 */
	return fares_not(EXITED(7));
}

/* With an interpreter that is a file of this content. */
static int fares_not_with(const char *content, size_t length, int as_on_linux)
{
	char path[64];

	begin_program();
	snprintf(path, sizeof(path), "%s/interpreter", folder);
	write_file("interpreter", content, length);
	add_interpreter(path, strlen(path) + 1);
	return fares_not(as_on_linux);
}

static int short_interpreter(void)
{
	return fares_not_with("text", 4, REFUSED(EIO));
}

static int unknown_interpreter(void)
{
	static const char nothing[4096];

	return fares_not_with(nothing, sizeof(nothing), REFUSED(ELIBBAD));
}

static int interpreter_without_nul(void)
{
	begin_program();
	add_interpreter("x", 1);
	return fares_not(REFUSED(ENOEXEC));
}

/* Exits with 1 if AT_BASE is not 0. */
__asm__(".data\n"
	"tells_base:\n"
	"	mov (%rsp), %rax\n"
	"	lea 16(%rsp, %rax, 8), %rsi\n"
	"1:	mov (%rsi), %rdx\n"
	"	add $8, %rsi\n"
	"	test %rdx, %rdx\n" /* past the environment */
	"	jnz 1b\n"
	"2:	mov (%rsi), %rdx\n"
	"	mov 8(%rsi), %rax\n"
	"	add $16, %rsi\n"
	"	cmp $7, %rdx\n" /* AT_BASE */
	"	jne 2b\n"
	"	xor %edi, %edi\n"
	"	test %rax, %rax\n"
	"	setnz %dil\n"
	"	mov $231, %eax\n"
	"	syscall\n"
	"	.skip 64\n"
	".text\n");
extern const char tells_base[64];

/* The program becomes the file "interpreter" at another address, and is a new one again. */
static void add_program_as_interpreter(void)
{
	char path[64];

	file.header.e_entry += 0x100000;
	file.segments[0].p_vaddr += 0x100000;
	write_program("interpreter");
	file.header.e_entry -= 0x100000;
	file.segments[0].p_vaddr -= 0x100000;
	snprintf(path, sizeof(path), "%s/interpreter", folder);
	add_interpreter(path, strlen(path) + 1);
}

static int base_of_interpreter(void)
{
	begin_program();
	memcpy(code, tells_base, sizeof(tells_base));
	add_program_as_interpreter();
	return fares_not(EXITED(0));
}

/* The page wants EINVAL; to Linux the first one counts, which isn't there. */
static int last_interpreter(void)
{
	Elf64_Phdr *first;

	begin_program();
	first = add_segment(PT_NULL);
	add_program_as_interpreter();
	*first = file.segments[2];
	first->p_offset = SIZE - 8;
	first->p_filesz = first->p_memsz = 8;
	memcpy(texts + sizeof(texts) - 8, "missing", 8);
	return fares_not(REFUSED(ENOENT));
}

/* Exits with 7 by code that it writes to its stack. */
__asm__(".data\n"
	"runs_on_stack:\n"
	"	lea -64(%rsp), %rdi\n"
	"	movabs $0x07bf000000e7b8, %rax\n" /* mov $231, %eax; mov $7, %edi */
	"	mov %rax, (%rdi)\n"
	"	movabs $0x050f00000007, %rax\n" /* its operand; syscall */
	"	mov %rax, 6(%rdi)\n"
	"	jmp *%rdi\n"
	"	.skip 64\n"
	".text\n");
extern const char runs_on_stack[64];

static int executable_stack(void)
{
	begin_program();
	memcpy(code, runs_on_stack, sizeof(runs_on_stack));
	add_segment(PT_GNU_STACK);
	return fares_not(EXITED(7));
}

static int plain_stack(void)
{
	begin_program();
	memcpy(code, runs_on_stack, sizeof(runs_on_stack));
	add_segment(PT_GNU_STACK)->p_flags = PF_R | PF_W;
	return fares_not(SIGSEGV);
}

static int other_machine(void)
{
	begin_program();
	file.header.e_machine = EM_AARCH64;
	return fares_not(REFUSED(ENOEXEC));
}

static int type_of_core(void)
{
	begin_program();
	file.header.e_type = ET_CORE;
	return fares_not(REFUSED(ENOEXEC));
}

static int size_of_segment(void)
{
	begin_program();
	file.header.e_phentsize--;
	return fares_not(REFUSED(ENOEXEC));
}

static int no_segment_table(void)
{
	begin_program();
	size = sizeof(file.header);
	return fares_not(REFUSED(ENOEXEC));
}

/* PRoot does not survive it. */
static int no_segments(void)
{
	begin_program();
	file.header.e_phnum = 0;
	return fares_not(REFUSED(ENOEXEC));
}

/* Exits with bits 12 to 19 of its address: the same nine times where it never varies. */
static int fixed_addresses(void)
{
	int first, seen;

	begin_program();
	file.header.e_type = ET_DYN;
	file.header.e_entry -= BASE;
	file.segments[0].p_vaddr = 0;
	memcpy(code, "\x48\x8d\x3d\0\0\0\0\xc1\xef\x0c\xb8\xe7\0\0\0\x0f\5", 17);
	first = seen = run_program();
	for (int more = 0; more < 8 && seen == first; more++)
		seen = run_program();
	return end(seen == first);
}

int main(int argc, char **argv)
{
	static const struct fact facts[] = {
		{"beyond-user-space", beyond_user_space},
		{"more-in-the-file", more_in_the_file},
		{"overlapping-segments", overlapping_segments},
		{"descending-segments", descending_segments},
		{"segment-without-bytes", segment_without_bytes},
		{"short-interpreter", short_interpreter},
		{"unknown-interpreter", unknown_interpreter},
		{"interpreter-without-nul", interpreter_without_nul},
		{"base-of-interpreter", base_of_interpreter},
		{"last-interpreter", last_interpreter},
		{"executable-stack", executable_stack},
		{"plain-stack", plain_stack},
		{"other-machine", other_machine},
		{"type-of-core", type_of_core},
		{"size-of-segment", size_of_segment},
		{"no-segment-table", no_segment_table},
		{"no-segments", no_segments},
		{"fixed-addresses", fixed_addresses},
		{0},
	};

	return witness(facts, argc, argv);
}
