// SIGINT and SIGTERM as a flag that long work looks at.
#ifndef SELFSPAN_COMMANDS_INTERRUPT_H
#define SELFSPAN_COMMANDS_INTERRUPT_H

#include <signal.h>

// From now on either signal sets the flag, which is cleared first. A second one of the same kind ends the process.
const volatile sig_atomic_t *interrupt_catch(void);

// From now on either signal ends the process.
void interrupt_release(void);

#endif
