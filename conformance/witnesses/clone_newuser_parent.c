/*
 * clone(2) says: CLONE_NEWUSER can't be used together with CLONE_PARENT. Exit status 0: the call
 * makes a sibling of its caller, as Linux does; 1: EINVAL.
 */
#include "clone_namespace_parent.h"

int main(void)
{
	return sibling_with(CLONE_NEWUSER);
}
