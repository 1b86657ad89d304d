/* riscv64: the system call, the one statement that makes a process, and the entry points. See
 * x86_64.h. */

#include "generic_calls.h"

#define MACHINE "riscv64"
#define O_DIRECTORY 0200000
#define O_NOFOLLOW 0400000

static inline long call6(long number, long a, long b, long c, long d, long e, long f)
{
	register long a7 __asm__("a7") = number;
	register long a0 __asm__("a0") = a;
	register long a1 __asm__("a1") = b;
	register long a2 __asm__("a2") = c;
	register long a3 __asm__("a3") = d;
	register long a4 __asm__("a4") = e;
	register long a5 __asm__("a5") = f;

	__asm__ volatile("ecall"
			 : "+r"(a0)
			 : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5)
			 : "memory");
	return a0;
}

static inline long create(long number, const int64_t *args, void *stack, long slot)
{
	register long a7 __asm__("a7") = number;
	register long a0 __asm__("a0") = args[0];
	register long a1 __asm__("a1") = args[1];
	register long a2 __asm__("a2") = args[2];
	register long a3 __asm__("a3") = args[3];
	register long a4 __asm__("a4") = args[4];
	register long a5 __asm__("a5") = args[5];

	__asm__ volatile("ecall\n\t"
			 "bnez a0, 1f\n\t"
			 "mv a1, sp\n\t"
			 "mv sp, %[stack]\n\t"
			 "mv a0, %[slot]\n\t"
			 "mv s0, zero\n\t"
			 "call begin_driven\n\t"
			 "ebreak\n"
			 "1:"
			 : "+r"(a0)
			 : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4),
			   "r"(a5), [stack] "r"(stack), [slot] "r"(slot)
			 : "memory");
	return a0;
}

__asm__(".globl _start\n"
	"_start:\n\t"
	".option push\n\t"
	".option norelax\n\t"
	"la gp, __global_pointer$\n\t"
	".option pop\n\t"
	"mv s0, zero\n\t"
	"mv a0, sp\n\t"
	"andi sp, sp, -16\n\t"
	"call begin_image\n\t"
	"ebreak\n");

/* The kernel brings its own restorer in the vdso. */
#define RESTORER 0
