/* The one statement that makes a child on its caller's memory, for the shared object of vfork.c;
 * and the end of that child. An #ifdef stands here as in arch.h. */

/*
 * The child is called on the caller's own stack, 512 bytes below the frame, which is more than any
 * red zone: what the caller keeps there is as it was when it runs again. The compiler never sees
 * the second return, and the child never comes back here.
 */
#if defined(__x86_64__)

static inline long create_frozen(long number, const long *args, child_function child,
				 void *argument)
{
	register long r10 __asm__("r10") = args[3];
	register long r8 __asm__("r8") = args[4];
	register long r9 __asm__("r9") = args[5];
	register child_function r12 __asm__("r12") = child;
	register void *r13 __asm__("r13") = argument;
	long result;

	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "sub $512, %%rsp\n\t"
			 "and $-16, %%rsp\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov %%r13, %%rdi\n\t"
			 "call *%%r12\n\t"
			 "hlt\n"
			 "1:"
			 : "=a"(result)
			 : "a"(number), "D"(args[0]), "S"(args[1]), "d"(args[2]), "r"(r10), "r"(r8),
			   "r"(r9), "r"(r12), "r"(r13)
			 : "rcx", "r11", "memory", "cc");
	return result;
}

static inline void leave(long status)
{
	for (;;)
		__asm__ volatile("syscall" : : "a"(231L), "D"(status) : "rcx", "r11", "memory");
}

#elif defined(__aarch64__)

static inline long create_frozen(long number, const long *args, child_function child,
				 void *argument)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = args[0];
	register long x1 __asm__("x1") = args[1];
	register long x2 __asm__("x2") = args[2];
	register long x3 __asm__("x3") = args[3];
	register long x4 __asm__("x4") = args[4];
	register long x5 __asm__("x5") = args[5];
	register child_function x19 __asm__("x19") = child;
	register void *x20 __asm__("x20") = argument;

	__asm__ volatile("svc #0\n\t"
			 "cbnz x0, 1f\n\t"
			 "sub sp, sp, #512\n\t"
			 "mov x29, xzr\n\t"
			 "mov x30, xzr\n\t"
			 "mov x0, x20\n\t"
			 "blr x19\n\t"
			 "brk #0\n"
			 "1:"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5), "r"(x19), "r"(x20)
			 : "memory", "cc");
	return x0;
}

static inline void leave(long status)
{
	register long x8 __asm__("x8") = 94;
	register long x0 __asm__("x0") = status;

	for (;;)
		__asm__ volatile("svc #0" : : "r"(x8), "r"(x0) : "memory");
}

#else
#error "no statement for this architecture: write one in native/arch/vfork.h"
#endif
