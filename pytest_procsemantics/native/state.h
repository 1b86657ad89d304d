/*
 * What the hub remembers, and how it speaks to the driver.
 */

struct watch {
	int32_t pid;   /* 0: the slot is free */
	int32_t tid;   /* 0: a whole process */
	int32_t pidfd; /* -1: /proc must be looked at */
	uint32_t exec; /* the serial of an exec that has no answer yet */
};

#define HUB_ALIGNMENT 4096 /* bytes: whole pages, so that fork can leave them out */
#define INPUT_LIMIT (2 * (PACKET_LIMIT + 8))

static struct hub {
	struct watch watches[SLOTS + 1];
	struct pollfd polled[SLOTS + 2]; /* the driver, the way up, then the pidfd of each slot */
	uint32_t highest;		 /* slot in use */
	uint32_t abilities;
	int32_t pid;
	int is_foreign_proc; /* /proc is of another pid namespace: its numbers are not ours */
	uint64_t folders;    /* made so far */
	int has_folder;	     /* since the test began */
	char base[200];	     /* where folders are made */
	uint32_t held;	     /* bytes of input not yet taken */
	char input[INPUT_LIMIT];
	char packet[2 * PACKET_LIMIT];
} __attribute__((aligned(HUB_ALIGNMENT))) hub;

/* What a root must know: of the hub's own state it gets no copy. */
static struct {
	struct rlimit files;  /* as the hub found it */
	int has_raised_files; /* and does not have it any more */
	int has_pidfds;
	int is_closing_ranges; /* the kernel has close_range */
} given;

static void tell(uint32_t kind, uint32_t serial, int64_t result, const char *text)
{
	struct {
		struct answer answer;
		char text[256];
	} word;
	char *end = append(word.text, word.text + sizeof(word.text), text);

	word.answer.channel = 0;
	word.answer.length = (uint32_t)(sizeof(word.answer) - 8 + (size_t)(end - word.text));
	word.answer.kind = kind;
	word.answer.serial = serial;
	word.answer.result = result;
	write_all(1, &word, word.answer.length + 8);
}
