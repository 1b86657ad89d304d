/*
 * clone(2) says: CLONE_NEWPID can't be used together with CLONE_PARENT. Exit status 0: the call
 * makes a sibling of its caller, as Linux does; 1: EINVAL. An ordinary user needs a user namespace
 * for it, so that is asked for first.
 */
#include "clone_namespace_parent.h"

int main(void)
{
	if (geteuid() && unshare(CLONE_NEWUSER))
		return 2;
	return sibling_with(CLONE_NEWPID);
}
