/*
 * The agent: one small static program that runs on the target and does what a test says.
 *
 * Freestanding: raw system calls only, no libc. Started by the driver it is a keeper or a hub;
 * every driven process is made by the hub and its children, or is an image of this program after
 * exec.
 */

#include "sys.h"

#include "frames.h"
#include "children.h"
#include "tree.h"

#include "driven.h"
#include "hub.h"
#include "keeper.h"

/* Where an image begins. stack: argc, argv, 0, envp, 0, auxiliary vector (the ABI's process entry).
 */
__attribute__((used, noreturn)) static void begin_image(long *stack)
{
	int argc = (int)stack[0];
	char **argv = (char **)(stack + 1);
	char **envp = argv + argc + 1;
	long *auxiliary = (long *)envp;
	uint32_t page_size = 4096;

	while (*auxiliary++)
		;
	for (; auxiliary[0]; auxiliary += 2)
		if (auxiliary[0] == AT_PAGESZ)
			page_size = (uint32_t)auxiliary[1];
	if (argc == 2 && same_text(argv[1], "--procsem-hub"))
		run_hub(argv[0], envp, page_size);
	if (argc > 2 && same_text(argv[1], "--procsem-keeper"))
		keep(argc, argv, envp);
	find_welcome((long)stack);
}
