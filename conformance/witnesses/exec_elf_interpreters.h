/*
 * Makes an ELF file for this machine with one loadable segment and the interpreters that are named,
 * in their order.
 */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void make_program(const char *path, const char *first, const char *second)
{
	static const char *names[2];
	Elf64_Ehdr header;
	Elf64_Phdr segments[3];
	FILE *self = fopen("/proc/self/exe", "rb");
	FILE *file = fopen(path, "wb");
	size_t at = sizeof(header) + sizeof(segments);
	int count = 0;

	/* e_ident and e_machine are those of this program. */
	if (!self || !file || fread(&header, sizeof(header), 1, self) != 1) {
		perror(path);
		exit(2);
	}
	names[0] = first;
	names[1] = second;
	memset(segments, 0, sizeof(segments));
	for (; count < 2 && names[count]; count++) {
		segments[count].p_type = PT_INTERP;
		segments[count].p_offset = at;
		segments[count].p_filesz = strlen(names[count]) + 1;
		at += segments[count].p_filesz;
	}
	segments[count].p_type = PT_LOAD;
	segments[count].p_flags = PF_R | PF_X;
	segments[count].p_vaddr = 0x10000000;
	segments[count].p_filesz = segments[count].p_memsz = at;
	segments[count].p_align = 0x10000;
	header.e_type = ET_EXEC;
	header.e_entry = 0x10000000;
	header.e_phoff = sizeof(header);
	header.e_phnum = count + 1;
	header.e_shoff = 0;
	header.e_shnum = header.e_shstrndx = 0;
	fwrite(&header, sizeof(header), 1, file);
	fwrite(segments, sizeof(segments), 1, file);
	for (int i = 0; i < count; i++)
		fwrite(names[i], strlen(names[i]) + 1, 1, file);
	fclose(self);
	if (fclose(file) || chmod(path, 0755)) {
		perror(path);
		exit(2);
	}
}
