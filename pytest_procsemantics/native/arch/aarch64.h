/* aarch64: the system call, the one statement that makes a process, and the entry points. See
 * x86_64.h. */

#include "generic_calls.h"

#define MACHINE "aarch64"
#define O_DIRECTORY 040000
#define O_NOFOLLOW 0100000

static inline long call6(long number, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory", "cc");
	return x0;
}

static inline long create(long number, const int64_t *args, void *stack, long slot)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = args[0];
	register long x1 __asm__("x1") = args[1];
	register long x2 __asm__("x2") = args[2];
	register long x3 __asm__("x3") = args[3];
	register long x4 __asm__("x4") = args[4];
	register long x5 __asm__("x5") = args[5];

	__asm__ volatile("svc #0\n\t"
			 "cbnz x0, 1f\n\t"
			 "mov x1, sp\n\t"
			 "mov sp, %[stack]\n\t"
			 "mov x0, %[slot]\n\t"
			 "mov x29, xzr\n\t"
			 "mov x30, xzr\n\t"
			 "bl begin_driven\n\t"
			 "brk #0\n"
			 "1:"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4),
			   "r"(x5), [stack] "r"(stack), [slot] "r"(slot)
			 : "memory", "cc");
	return x0;
}

__asm__(".globl _start\n"
	"_start:\n\t"
	"mov x29, xzr\n\t"
	"mov x30, xzr\n\t"
	"mov x0, sp\n\t"
	"and sp, x0, #-16\n\t"
	"bl begin_image\n\t"
	"brk #0\n");

/* The kernel brings its own restorer in the vdso. */
#define RESTORER 0
