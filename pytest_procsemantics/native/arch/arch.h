/* Chooses the architecture: the only place with #ifdef. */
#if defined(__x86_64__)
#include "x86_64.h"
#elif defined(__aarch64__)
#include "aarch64.h"
#elif defined(__riscv) && __riscv_xlen == 64
#include "riscv64.h"
#else
#error "no header for this architecture: write native/arch/NAME.h after x86_64.h"
#endif
