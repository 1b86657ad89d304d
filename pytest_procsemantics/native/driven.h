/*
 * The loop of a driven process: reads a request from its slot's way down, does it, answers on the
 * shared way up.
 *
 * It runs on the stack and in the buffer of its slot, so it needs nothing of the memory that its
 * process was given, and two processes on one memory never meet. It makes no calls but read, the
 * one asked for, and write, for a tracer and seccomp's strict mode see them all. No thread-local
 * storage, no state of its own that is written.
 */

/* The top of the stack and a short packet lie in one page: each page that a new process touches
 * costs it a fault. */
struct room {
	char stack[16384 - 2048];
	char packet[PACKET_LIMIT];
} __attribute__((aligned(4096)));

static struct room rooms[SLOTS + 1];

/* Signals that the counting handler saw. Ordinary data: copied by fork, shared with CLONE_VM, fresh
 * after exec. */
static uint64_t signal_counts[SIGNALS + 1];
static char last_signal[128];

static void count_signal(int signal, const char *info, void *context)
{
	(void)context;
	__atomic_fetch_add(&signal_counts[signal], 1, __ATOMIC_SEQ_CST);
	for (unsigned int i = 0; i < sizeof(last_signal); i++)
		*(volatile char *)&last_signal[i] = info[i];
}

/* No way is left to say what went wrong: the status is the only word. */
enum last_status {
	STATUS_NO_WELCOME = 98, /* an image of the agent that nobody drives */
	STATUS_NO_CHANNEL = 99, /* the check closed the channel */
};

static void send_up(struct answer *answer, uint32_t slot, uint32_t kind, int64_t result,
		    uint32_t extra)
{
	answer->channel = slot;
	answer->length = sizeof(*answer) - 8 + extra;
	answer->kind = kind;
	answer->result = result;
	while (call3(NR_write, UP, answer, sizeof(*answer) + extra) == -EINTR)
		;
}

static void say_hello(uint32_t slot, uint32_t kind, long stack_pointer)
{
	struct hello *hello = (struct hello *)rooms[slot].packet;

	hello->answer.serial = 0;
	hello->pid = (uint32_t)call0(NR_getpid);
	hello->tid = (uint32_t)call0(NR_gettid);
	hello->hub_pid = 0;
	hello->unused = 0;
	send_up(&hello->answer, slot, kind, stack_pointer, sizeof(*hello) - sizeof(hello->answer));
}

static long next_packet(uint32_t slot, void *to, long limit)
{
	long length;

	do
		length = call3(NR_read, DOWN(slot), to, limit);
	while (length == -EINTR);
	return length;
}

/* Sends what lies at an address: the kernel reads it, so a bad address is an errno and no signal.
 */
static void load(struct answer *answer, uint32_t slot, const void *address, uint64_t length)
{
	struct iovec parts[2] = {{answer, sizeof(*answer)}, {(void *)address, length}};
	long wrote;

	answer->channel = slot;
	answer->kind = ANSWER;
	answer->result = (int64_t)length;
	do
		wrote = call3(NR_writev, UP, parts, 2);
	while (wrote == -EINTR);
	if (wrote < 0)
		send_up(answer, slot, ANSWER, wrote, 0);
}

static int64_t touch(const struct request *request)
{
	volatile unsigned char *at = (volatile unsigned char *)request->args[0];

	if (request->args[1])
		*at = (unsigned char)request->args[2];
	return *at;
}

/* The exec waits until its welcome is there, else a fast new image would look for it in vain. */
static int64_t exec(const struct request *request, uint32_t slot)
{
	char first;
	long seen;

	do
		seen = call6(NR_recvfrom, DOWN(slot), (long)&first, 1, MSG_PEEK, 0, 0);
	while (seen == -EINTR);
	const int64_t *args = request->args;
	int64_t result =
		call6(request->number, args[0], args[1], args[2], args[3], args[4], args[5]);

	next_packet(slot, &first, 1); /* still here: the welcome has nobody to greet */
	return result;
}

static void __attribute__((noreturn)) serve(uint32_t slot)
{
	struct request *request = (struct request *)rooms[slot].packet;
	/* The answer lies right before the data that goes back with it, over arguments that are no
	 * longer needed. */
	struct answer *answer = (struct answer *)(request->data - sizeof(struct answer));
	const int64_t *args = request->args;

	for (;;) {
		long length = next_packet(slot, request, PACKET_LIMIT);
		int64_t result = -ENOSYS;
		uint32_t out = 0;

		if (length <= 0)
			leave(length ? STATUS_NO_CHANNEL : 0);
		if (length < (long)sizeof(*request))
			continue;

		uint32_t serial = request->serial;

		switch (request->kind) {
		case CALL:
			if (request->child && request->child <= SLOTS)
				result = create(request->number, args, rooms[request->child].packet,
						request->child);
			else
				result = call6(request->number, args[0], args[1], args[2], args[3],
					       args[4], args[5]);
			out = request->out;
			break;
		case EXEC:
			result = exec(request, slot);
			break;
		case LOAD:
			answer->serial = serial;
			load(answer, slot, (const void *)args[0], (uint64_t)args[1]);
			continue;
		case STORE:
			result = next_packet(slot, (void *)args[0], args[1]);
			break;
		case TOUCH:
			result = touch(request);
			break;
		}
		if (out > PACKET_LIMIT - sizeof(*request))
			out = PACKET_LIMIT - sizeof(*request);
		answer->serial = serial;
		send_up(answer, slot, ANSWER, result, out);
	}
}

static void set_up_root(void);
#define ROOT 0x10000 /* beside a slot's number: a process of the hub's own making */

/* Where create() leads a child, on the stack of its slot. stack_pointer: the one that the kernel
 * gave it. */
__attribute__((used, noreturn)) static void begin_driven(long slot, long stack_pointer)
{
	if (slot & ROOT) {
		slot &= ~ROOT;
		set_up_root();
	}
	say_hello((uint32_t)slot, HELLO, stack_pointer);
	serve((uint32_t)slot);
}

/* A new image takes the slot whose next packet is a welcome for its pid, or for any: no argument,
 * no memory and no number is needed. */
static void __attribute__((noreturn)) find_welcome(long stack_pointer)
{
	struct request welcome;
	int64_t pid = call0(NR_getpid);

	for (uint32_t slot = 1; slot <= SLOTS; slot++) {
		long length = call6(NR_recvfrom, DOWN(slot), (long)&welcome, sizeof(welcome),
				    MSG_PEEK | MSG_DONTWAIT, 0, 0);

		if (length != sizeof(welcome) || welcome.kind != WELCOME ||
		    (welcome.args[0] && welcome.args[0] != pid))
			continue;
		next_packet(slot, &welcome, sizeof(welcome));
		/* With any pid welcome, nobody has heard of this process before. */
		say_hello(slot, welcome.args[0] ? IMAGE : HELLO, stack_pointer);
		serve(slot);
	}
	leave(STATUS_NO_WELCOME);
}
