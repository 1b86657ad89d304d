/*
 * A Python callable in a child that has its caller's memory while the caller is frozen.
 *
 * A shared object for the interpreter's own process: no libc, no data of its own but one table, and
 * nothing but function pointers of Python. Between the two swaps of thread states no bytecode may
 * run, so they stand here and not in Python.
 */

typedef void (*child_function)(void *);

#include "arch/vfork.h"

/* spawners/frozen.py fills it in. */
struct run {
	long number; /* of the system call */
	long args[6];
	void *(*call)(void *); /* PyObject_CallNoArgs */
	void *callable;
	long is_spoilt;		 /* what the callable raised is still in its thread state */
	long status;		 /* of the child's exit; the callable may change it */
	void *(*swap)(void *);	 /* PyThreadState_Swap */
	void *(*current)(void);	 /* PyThreadState_GetUnchecked */
	void (*restore)(void *); /* PyEval_RestoreThread */
	void *state;		 /* thread state that the child runs on */
	int (*note)(unsigned, const void *); /* pthread_setspecific, or null */
	unsigned key; /* of the thread state that PyGILState_Check compares with */
};

static void begin(void *argument)
{
	struct run *run = argument;

	run->is_spoilt = !run->call(run->callable);
	leave(run->status);
}

/*
 * Makes a child by vfork, and gives what the system call gave: the child has ended or runs another
 * program when this returns. Called with the interpreter held, which is not released meanwhile, but
 * for the moment that a swap takes since Python 3.12.
 *
 * The child can have ended anywhere. If its thread state is the current one, it ended while it held
 * the interpreter, which so is ours; else it had let go of it, and it has to be taken again.
 */
long procsem_run(struct run *run)
{
	void *own = run->swap(run->state);
	long result;

	if (run->note)
		run->note(run->key, run->state);
	result = create_frozen(run->number, run->args, begin, run);
	if (run->note)
		run->note(run->key, own);
	if (run->current() == run->state)
		run->swap(own);
	else
		run->restore(own);
	return result;
}

/* What the handlers below call, and the exceptions that they have raised. */
struct {
	void *(*current)(void);			/* PyThreadState_GetUnchecked */
	void *(*own)(void);			/* PyGILState_GetThisThreadState */
	unsigned long (*thread)(void);		/* PyThread_get_thread_ident */
	int (*raise_in)(unsigned long, void *); /* PyThreadState_SetAsyncExc */
	int (*interrupt)(int);			/* PyErr_SetInterruptEx */
	long (*write)(int, const void *, unsigned long);
	int *(*error)(void); /* __errno_location */
	void *overdue;
	void *interrupted;
	long has_raised; /* one of them, since this was 0 */
	long is_heard;	 /* the child is of the main thread, where Python hears signals */
	long is_deaf;	 /* but not while it runs Python */
	long file;	 /* descriptor where the child's stacks are written */
} procsem_handlers;

static const char handled = 4; /* end of transmission; MARK in rescue.py */

/*
 * Has Python raise an exception in the thread that a signal interrupts. Only where that thread
 * holds the interpreter, and so keeps it meanwhile: Python looks at the current thread state, and
 * there may be none.
 */
static void raise_here(void *exception)
{
	void *current = procsem_handlers.current();

	if (!current || current != procsem_handlers.own())
		return;
	procsem_handlers.has_raised = 1;
	procsem_handlers.raise_in(procsem_handlers.thread(), exception);
}

/*
 * A signal handler for the child's deadline. In another than the main thread Python has no handler
 * for it, and would compare numbers to find that out, for which it needs a thread state.
 *
 * faulthandler calls it last, and lets further signals in meanwhile: on its small stack there is
 * room for four. So what the watcher waits for before the next one is written behind the stacks.
 */
void procsem_overdue(int number)
{
	int *error = procsem_handlers.error();
	int kept = *error;

	if (procsem_handlers.is_heard)
		procsem_handlers.interrupt(number);
	if (procsem_handlers.is_deaf)
		raise_here(procsem_handlers.overdue);
	procsem_handlers.write((int)procsem_handlers.file, &handled, 1);
	*error = kept;
}

/* A signal handler for SIGINT in a deaf child. */
void procsem_interrupted(int number)
{
	procsem_handlers.interrupt(number);
	raise_here(procsem_handlers.interrupted);
}
