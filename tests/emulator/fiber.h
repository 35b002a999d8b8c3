// Fibers: stacks that one OS thread switches between. A few lines of assembly on x86-64 and 64-bit Arm, where a
// switch costs about 2 ns; ucontext elsewhere. AddressSanitizer is told of every switch.
#ifndef SELFSPAN_TESTS_EMULATOR_FIBER_H
#define SELFSPAN_TESTS_EMULATOR_FIBER_H

#include <stddef.h>
#include <stdint.h>

#include "tests/emulator/runtime.h"

#ifdef EMULATED_SANITIZED
#include <sanitizer/common_interface_defs.h>
#define FIBER_STACK (256 * 1024)  // instrumented frames are large
#else
#define FIBER_STACK (64 * 1024)
#endif

#if !defined(__ELF__) || !(defined(__x86_64__) || defined(__aarch64__))
#define FIBER_UCONTEXT
#include <ucontext.h>
#endif

struct fiber_context {
  void *stack_pointer;
  char *stack;
  size_t stack_bytes;
#ifdef FIBER_UCONTEXT
  ucontext_t context;
#endif
  void *fake_stack;  // AddressSanitizer's
};

#ifndef FIBER_UCONTEXT
extern "C" void emulated_switch(void **save, void *load);
#ifdef __x86_64__
__asm__(".text\n"
        ".type emulated_switch,@function\n"
        "emulated_switch:\n"
        "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n"
        "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
        "  ret\n"
        ".size emulated_switch,.-emulated_switch\n");
#else
__asm__(".text\n"
        ".type emulated_switch,%function\n"
        "emulated_switch:\n"
        "  sub sp, sp, #160\n"
        "  stp x19, x20, [sp]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n"
        "  stp x25, x26, [sp, #48]\n  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n"
        "  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n"
        "  stp d14, d15, [sp, #144]\n"
        "  mov x9, sp\n  str x9, [x0]\n  mov sp, x1\n"
        "  ldp x19, x20, [sp]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n"
        "  ldp x25, x26, [sp, #48]\n  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n"
        "  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n"
        "  ldp d14, d15, [sp, #144]\n"
        "  add sp, sp, #160\n"
        "  ret\n"
        ".size emulated_switch,.-emulated_switch\n");
#endif
#endif

// Makes the context one that starts `entry` on an empty stack; entry must never return.
static inline void fiber_start(fiber_context *fiber, void (*entry)(void)) {
  fiber->fake_stack = NULL;
#ifdef FIBER_UCONTEXT
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = fiber->stack;
  fiber->context.uc_stack.ss_size = fiber->stack_bytes;
  fiber->context.uc_link = NULL;
  makecontext(&fiber->context, entry, 0);
#else
  uintptr_t *top = (uintptr_t *)(fiber->stack + fiber->stack_bytes);
#ifdef __x86_64__
  // As after a call: the stack is 8 bytes off a multiple of 16 where the entry begins.
  top -= 2;
  top[0] = (uintptr_t)entry;
  top[1] = 0;
  top -= 6;
#else
  top -= 20;
  for (int i = 0; i < 20; ++i)
    top[i] = 0;
  top[11] = (uintptr_t)entry;  // x30
#endif
  fiber->stack_pointer = top;
#endif
}

// Goes from the running context to another; `last`: never to come back.
static inline void fiber_switch(fiber_context *from, fiber_context *to, bool last) {
#ifdef EMULATED_SANITIZED
  __sanitizer_start_switch_fiber(last ? NULL : &from->fake_stack, to->stack, to->stack_bytes);
#else
  (void)last;
#endif
#ifdef FIBER_UCONTEXT
  swapcontext(&from->context, &to->context);
#else
  emulated_switch(&from->stack_pointer, to->stack_pointer);
#endif
#ifdef EMULATED_SANITIZED
  __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
}

// The first thing that an entry calls: learns the stack of the context that started it.
static inline void fiber_started(fiber_context *starter) {
#ifdef EMULATED_SANITIZED
  const void *stack;
  __sanitizer_finish_switch_fiber(NULL, &stack, &starter->stack_bytes);
  starter->stack = (char *)stack;
#else
  (void)starter;
#endif
}

#endif
