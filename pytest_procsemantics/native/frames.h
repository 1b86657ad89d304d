/*
 * What goes between driver, hub and driven processes. driven/wire.py has the same; PROTOCOL counts
 * the changes.
 *
 * The stream between driver and hub is made of frames: channel, length, payload. Channel 0 is the
 * hub itself, channel N the driven process in slot N. Downwards the payload of a frame becomes one
 * packet to that process; upwards a process writes its packet as a finished frame, so that the hub
 * copies nothing. All numbers are little-endian.
 */

#define PROTOCOL 1
#define SLOTS 32
#define EXECUTES \
	0x100 /* beside a slot's number in a frame from the driver: its packet asks for an exec */
#define PACKET_LIMIT 32768 /* bytes of one packet, the longest that every target passed whole */

/* Descriptors that every driven process inherits: one shared way up and one way down for each slot.
 * Above what a check is likely to use; below 256, for with higher numbers each fork copies a table
 * of 1,024. The hub's own ends lie behind them. */
#define UP 180
#define DOWN(slot) (UP + (slot))
#define HUB_FIRST 213
#define HUB_NULL 213
#define HUB_UP 214
#define HUB_DOWN(slot) (HUB_UP + (slot))
#define HUB_LAST HUB_DOWN(SLOTS)

enum request_kind {
	CALL = 1, /* a system call; with child set, one that may return twice */
	EXEC, /* a system call that may never return; the welcome for the new image stands behind it
	       */
	LOAD, /* args[1] bytes at args[0] upwards */
	STORE,	  /* the next packet to args[0] */
	TOUCH,	  /* one byte at args[0] in user mode; args[1]: write args[2] there */
	WELCOME,  /* args[0]: the pid that the new image has to have, 0: any */
	FUNCTION, /* only of library.c: number: the address of a C function, or enum
		     own_function */
};

/* Numbers that are no address. */
enum own_function {
	LEAVE_LOOP,   /* the loop returns args[0] to whom it was called by; no answer */
	TELL_TABLE,   /* struct table into the first bytes of data */
	PUSH_CLEANUP, /* the loop goes on where a clean-up handler is pushed: args[0] of args[1] */
};

/* What the driver must know of an image of library.c; its addresses differ from image to image. */
struct table {
	uint64_t data_address; /* as in struct greeting, of this image */
	uint64_t room_size;
	uint64_t lookup; /* a function of 0 and a name: the address of a function or variable, or 0
			  */
	uint64_t begin_thread; /* a start routine whose argument is the slot of the new thread */
	uint64_t handlers;     /* HANDLERS addresses of functions that note their call */
	uint64_t acts;	       /* struct act for each of them */
	uint64_t notes;	       /* struct notes, on memory that children share */
};

#define HANDLERS 8
#define NOTES 1024

/* What a handler does when it has noted its call; function 0: nothing. */
struct act {
	uint64_t function;
	int64_t args[3];
};

struct note {
	uint32_t handler; /* from 0 */
	uint32_t tid;
	int64_t args[2]; /* whatever lay where the first two arguments do */
};

struct notes {
	uint64_t count; /* of calls, which may be more than fit */
	struct note notes[NOTES];
};

struct request {
	uint32_t kind;
	uint32_t serial; /* comes back with the answer */
	uint32_t child;	 /* CALL: the slot of the process that the call makes, 0: it makes none */
	uint32_t out;	 /* CALL: so many of the first bytes of data go back */
	int64_t number;
	int64_t args[6];
	char data[];
};

enum answer_kind {
	ANSWER = 1,
	HELLO, /* a new process's first word */
	IMAGE, /* a new image's first word */
	/* of the hub, on channel 0: */
	GREETING = 16,
	PONG,
	DEATH,	 /* serial: slot; result: wait status, or -1 where only the parent can know it */
	REFUSED, /* serial: slot; result: -errno of the fork of a root, or -EAGAIN: the way down is
		    full */
	CLEAN,	 /* result: 0, or -errno of the first thing that could not be removed */
	FOLDER,	 /* result: 0 or -errno; the path follows */
	STRAY,	 /* result: length of a packet that no loop of ours wrote */
};

struct answer {
	uint32_t channel;
	uint32_t length; /* of what follows these two */
	uint32_t kind;
	uint32_t serial;
	int64_t result;
	/* data follows */
};

struct hello {
	struct answer answer; /* result: the stack pointer with which the process began */
	uint32_t pid;	      /* as the process sees it */
	uint32_t tid;
	uint32_t hub_pid; /* as the hub sees it: filled in by the hub from the kernel's word */
	uint32_t unused;
};

enum hub_request {
	PING = 1,
	NEW_ROOT,    /* number: slot */
	FREE_SLOT,   /* number: slot; what its last process did not read is thrown away */
	NEW_FOLDER,  /* answered by FOLDER */
	END_OF_TEST, /* answered by CLEAN */
};

struct greeting {
	struct answer answer; /* result: 0, or -errno of a call without which there is no hub;
				 serial: its number */
	uint32_t protocol;
	uint32_t slots;
	uint32_t packet_limit;
	uint32_t page_size;
	uint32_t hub_pid;
	uint32_t abilities;
	uint64_t data_address; /* of the data of slot 0's requests */
	uint64_t room_size;    /* bytes from one slot's to the next one's */
	uint64_t handler;
	uint64_t restorer;
	uint64_t counters;    /* 64-bit counts of handled signals, by number from 0 */
	uint64_t last_signal; /* siginfo of the last one, 128 bytes */
	char machine[16];
	char path[256]; /* the agent's own, as it was started */
};

enum ability {
	SUBREAPER = 1,	  /* orphans come to the hub: no child left proves that nothing is left */
	INIT = 2,	  /* the hub is process 1 */
	PIDFD = 4,	  /* deaths are told by the kernel, else looked for in /proc */
	THREAD_PIDFD = 8, /* ends of threads likewise */
	CREDENTIALS = 16, /* the kernel says who wrote a packet */
	PROC = 32,	  /* who asks finds itself in /proc */
};

/* Comes before everything else: a wrapper may print a banner first. */
static const char preamble[8] = {'\x89', 'P', 'S', 'E', 'M', '\r', '\n', '\x1a'};
