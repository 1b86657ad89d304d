/* x86_64: call numbers, the system call, the one statement that makes a process, and the entry
 * points. */

#define MACHINE "x86_64"
#define O_DIRECTORY 0200000
#define O_NOFOLLOW 0400000

#define NR_read 0
#define NR_write 1
#define NR_close 3
#define NR_fstat 5
#define NR_lseek 8
#define NR_rt_sigaction 13
#define NR_rt_sigprocmask 14
#define NR_ioctl 16
#define NR_writev 20
#define NR_madvise 28
#define NR_getpid 39
#define NR_recvfrom 45
#define NR_sendto 44
#define NR_recvmsg 47
#define NR_socketpair 53
#define NR_setsockopt 54
#define NR_clone 56
#define NR_execve 59
#define NR_exit 60
#define NR_wait4 61
#define NR_kill 62
#define NR_chdir 80
#define NR_fchmod 91
#define NR_umask 95
#define NR_setpgid 109
#define NR_getppid 110
#define NR_setsid 112
#define NR_prctl 157
#define NR_gettid 186
#define NR_getdents64 217
#define NR_clock_gettime 228
#define NR_exit_group 231
#define NR_openat 257
#define NR_mkdirat 258
#define NR_unlinkat 263
#define NR_readlinkat 267
#define NR_fchmodat 268
#define NR_ppoll 271
#define NR_signalfd4 289
#define NR_dup3 292
#define NR_pipe2 293
#define NR_prlimit64 302
#define NR_renameat2 316
#define NR_pidfd_send_signal 424
#define NR_pidfd_open 434
#define NR_close_range 436

static inline long call6(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

/*
 * Makes a process or thread. One statement: the compiler never sees the second return, so a child
 * on its parent's memory can't spoil the parent's frame. The child leaves the stack that it got for
 * its slot's own and never comes back.
 */
static inline long create(long number, const int64_t *args, void *stack, long slot)
{
	register long r10 __asm__("r10") = args[3];
	register long r8 __asm__("r8") = args[4];
	register long r9 __asm__("r9") = args[5];
	long result;

	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "mov %%rsp, %%rsi\n\t"
			 "mov %[stack], %%rsp\n\t"
			 "mov %[slot], %%rdi\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "call begin_driven\n\t"
			 "hlt\n"
			 "1:"
			 : "=a"(result)
			 : "a"(number), "D"(args[0]), "S"(args[1]), "d"(args[2]), "r"(r10), "r"(r8),
			   "r"(r9), [stack] "r"(stack), [slot] "r"(slot)
			 : "rcx", "r11", "memory");
	return result;
}

/* Where a fresh image begins: the stack pointer that the kernel gave goes to begin_image as its
 * argument. */
__asm__(".globl _start\n"
	"_start:\n\t"
	"xor %ebp, %ebp\n\t"
	"mov %rsp, %rdi\n\t"
	"and $-16, %rsp\n\t"
	"call begin_image\n\t"
	"hlt\n");

/* Where a signal handler returns to; the kernel demands it of the program on x86_64. */
__asm__(".globl signal_restorer\n"
	"signal_restorer:\n\t"
	"mov $15, %eax\n\t"
	"syscall\n");
extern char signal_restorer[];
#define RESTORER ((uint64_t)signal_restorer)
