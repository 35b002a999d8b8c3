#include "commands/interrupt.h"

// The one piece of global state: a signal handler has no other way to tell the work.
static volatile sig_atomic_t stop_requested;

static void request_stop(int number) {
  signal(number, SIG_DFL);
  stop_requested = 1;
}

const volatile sig_atomic_t *interrupt_catch(void) {
  stop_requested = 0;
  signal(SIGINT, request_stop);
  signal(SIGTERM, request_stop);
  return &stop_requested;
}

void interrupt_release(void) {
  signal(SIGINT, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
}
