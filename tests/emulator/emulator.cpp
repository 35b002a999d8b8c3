// Runs kernels: blocks one after another, every CUDA thread of a block as a fiber with its own small stack.
//
// A fiber runs until it must wait for its warp or its block; then the scheduler goes on with another lane of the same
// warp, and with another warp only when this one is stuck. So a warp runs as far ahead of the others as barriers let
// it, and the order of warps, lanes and blocks changes with every block and launch: a missing barrier shows as wrong
// numbers or as the NaN pattern that shared memory starts with.
#include "tests/emulator/emulator.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/emulator/fiber.h"

enum { LANES = 32, MOST_THREADS = 1024, MOST_SHARED_ARRAYS = 64, MOST_KERNELS = 1024 };
enum { SHARED_DEFAULT = 48 * 1024, SHARED_LIMIT = 227 * 1024 };
enum { CANARY = 0xc5 };

enum fiber_status { READY, WAITS_FOR_WARP, WAITS_FOR_BLOCK, DONE };

struct pending_copy {
  void *shared;
  const void *global;
  bool valid;
  int group;
};

struct emulated_fiber {
  emulated_thread_state state;  // first: emulated_thread points here
  fiber_context context;
  fiber_status status;
  int warp;
  void *arguments;  // of the operation that it waits for
  pending_copy *copies;
  int n_copy, copy_capacity, group;
};

struct emulated_warp {
  int size, ready, arrived, exited;
  emulated_operation operation;
};

struct shared_array {
  unsigned char *data;
  size_t bytes;
};

static struct {
  bool prepared;
  const char *kernel;  // running; NULL: none
  emulated_body body;
  const void *arguments;
  uint64_t launches, blocks;  // started so far
  emulated_fiber *fibers, *current;
  emulated_warp warps[MOST_THREADS / LANES];
  int n_thread, n_warp, n_at_barrier, n_done;
  fiber_context scheduler;
  unsigned char *shared_region;  // its end is followed by an inaccessible page
  unsigned char *shared;
  size_t shared_bytes, static_bytes;
  shared_array arrays[MOST_SHARED_ARRAYS];
  int n_array;
  struct {
    const void *kernel;
    int shared_bytes;
  } allowed[MOST_KERNELS];
  int n_allowed;
} emulator;

emulated_thread_state *emulated_thread;

static emulated_fiber *this_fiber(void) {
  return emulator.current;
}

void emulated_abort(const char *format, ...) {
  char message[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  fprintf(stderr, "emulator: %s", message);
  if (emulator.kernel) {
    fprintf(stderr, " (kernel %s", emulator.kernel);
    if (emulator.current) {
      const emulated_thread_state *t = &emulator.current->state;
      fprintf(stderr, ", block %u,%u,%u, thread %u,%u,%u", t->block.x, t->block.y, t->block.z, t->thread.x,
              t->thread.y, t->thread.z);
    }
    fprintf(stderr, ")");
  }
  fprintf(stderr, "\n");
  fflush(NULL);
  abort();
}

// ---------------------------------------------------------------- memory that a kernel must not touch

#ifdef EMULATED_SANITIZED
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

// Guard pages make an access beyond an allocation a SIGSEGV: say where before dying.
static void on_bad_access(int number, siginfo_t *info, void *) {
  (void)number;
  signal(SIGSEGV, SIG_DFL);
  signal(SIGBUS, SIG_DFL);
  emulated_abort("access to memory outside every allocation, or misaligned, at %p; or a stack overflow",
                 info->si_addr);
}

static void catch_bad_access(struct sigaction saved[2], bool enter) {
  if (sanitized)
    return;
  if (!enter) {
    sigaction(SIGSEGV, &saved[0], NULL);
    sigaction(SIGBUS, &saved[1], NULL);
    return;
  }
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_bad_access;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, &saved[0]);
  sigaction(SIGBUS, &action, &saved[1]);
}

static void *map_with_guard(size_t bytes) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  char *data = (char *)mmap(NULL, bytes + page, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED || mprotect(data + bytes, page, PROT_NONE) != 0)
    emulated_abort("out of memory");
  return data;
}

static void prepare(void) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  emulator.fibers = (emulated_fiber *)calloc(MOST_THREADS, sizeof *emulator.fibers);
  char *stacks = (char *)map_with_guard(MOST_THREADS * (size_t)FIBER_STACK);
  if (!emulator.fibers)
    emulated_abort("out of memory");
  for (int i = 0; i < MOST_THREADS; ++i) {
    // The lowest page of a stack is its guard.
    char *stack = stacks + (size_t)i * FIBER_STACK;
    mprotect(stack, page, PROT_NONE);
    emulator.fibers[i].context.stack = stack + page;
    emulator.fibers[i].context.stack_bytes = FIBER_STACK - page;
  }
  emulator.shared_region = (unsigned char *)map_with_guard(256 * 1024);
  if (!sanitized) {
    stack_t alternate;
    memset(&alternate, 0, sizeof alternate);
    alternate.ss_size = 64 * 1024;
    alternate.ss_sp = malloc(alternate.ss_size);
    sigaltstack(&alternate, NULL);
  }
  emulator.prepared = true;
}

void emulated_shared_array(void *data, size_t bytes, uint64_t *block_seen) {
  if (*block_seen == emulator.blocks)
    return;
  *block_seen = emulator.blocks;
  memset(data, 0xff, bytes);
  if (emulator.n_array == MOST_SHARED_ARRAYS)
    emulated_abort("more than %d shared arrays", MOST_SHARED_ARRAYS);
  emulator.arrays[emulator.n_array++] = (shared_array){(unsigned char *)data, bytes};
  emulator.static_bytes += bytes;
  if (emulator.static_bytes > SHARED_DEFAULT || emulator.static_bytes + emulator.shared_bytes > SHARED_LIMIT)
    emulated_abort("%zu bytes of static and %zu of dynamic shared memory", emulator.static_bytes,
                   emulator.shared_bytes);
}

// 16 bytes at a 16-byte boundary of this block's shared memory?
static void require_shared(const char *what, const void *address) {
  const unsigned char *at = (const unsigned char *)address;
  if ((uintptr_t)at % 16)
    emulated_abort("%s: shared address %p is not 16-byte aligned", what, address);
  if (at >= emulator.shared && at + 16 <= emulator.shared + emulator.shared_bytes)
    return;
  for (int i = 0; i < emulator.n_array; ++i)
    if (at >= emulator.arrays[i].data && at + 16 <= emulator.arrays[i].data + emulator.arrays[i].bytes)
      return;
  emulated_abort("%s: address %p is outside the block's shared memory (dynamic: %zu bytes from %p)", what,
                 address, emulator.shared_bytes, (void *)emulator.shared);
}

cudaError_t emulated_function_shared(const void *kernel, int bytes) {
  if (bytes < 0 || bytes > SHARED_LIMIT)
    return emulated_set_error(cudaErrorInvalidValue), cudaErrorInvalidValue;
  int i = 0;
  while (i < emulator.n_allowed && emulator.allowed[i].kernel != kernel)
    ++i;
  if (i == MOST_KERNELS)
    emulated_abort("more than %d kernels", MOST_KERNELS);
  emulator.allowed[i].kernel = kernel;
  emulator.allowed[i].shared_bytes = bytes;
  emulator.n_allowed += i == emulator.n_allowed;
  return cudaSuccess;
}

// ---------------------------------------------------------------- asynchronous copies

// The bytes arrive when they are waited for; until then the destination holds NaN, so that a missing wait shows as
// well as a copy into a buffer that others still read.
void emulated_copy_async(void *shared, const void *global, bool valid) {
  require_shared("gpu_copy_async", shared);
  if ((uintptr_t)global % 16)
    emulated_abort("gpu_copy_async: global address %p is not 16-byte aligned", global);
  if (!emulated_is_device_memory(global, valid ? 16 : 1))
    emulated_abort("gpu_copy_async: global address %p is in no allocation", global);
  emulated_fiber *fiber = this_fiber();
  if (fiber->n_copy == fiber->copy_capacity) {
    fiber->copy_capacity = fiber->copy_capacity ? 2 * fiber->copy_capacity : 32;
    fiber->copies = (pending_copy *)realloc(fiber->copies,
                                            (size_t)fiber->copy_capacity * sizeof(pending_copy));
    if (!fiber->copies)
      emulated_abort("out of memory");
  }
  memset(shared, 0xff, 16);
  fiber->copies[fiber->n_copy++] = (pending_copy){shared, global, valid, fiber->group};
}

void emulated_copy_commit(void) {
  ++this_fiber()->group;
}

void emulated_copy_wait(int pending) {
  emulated_fiber *fiber = this_fiber();
  int kept = 0;
  for (int i = 0; i < fiber->n_copy; ++i) {
    const pending_copy *copy = &fiber->copies[i];
    if (copy->group >= fiber->group - pending)
      fiber->copies[kept++] = *copy;
    else if (copy->valid)
      memcpy(copy->shared, copy->global, 16);
    else
      memset(copy->shared, 0, 16);
  }
  fiber->n_copy = kept;
}

// ---------------------------------------------------------------- warps and blocks

static void *lane_arguments(int warp, int lane) {
  return emulator.fibers[warp * LANES + lane].arguments;
}

static void multiply(int warp) {
  float a[16][16], b[16][8], d[16][8];
  for (int lane = 0; lane < LANES; ++lane) {
    const emulated_mma *m = (const emulated_mma *)lane_arguments(warp, lane);
    int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      int row = g + i % 2 * 8, column = 2 * t + i / 2 * 8;
      a[row][column] = gpu_low_bf16(m->a[i]);
      a[row][column + 1] = gpu_high_bf16(m->a[i]);
    }
    for (int i = 0; i < 2; ++i) {
      b[2 * t + 8 * i][g] = gpu_low_bf16(m->b[i]);
      b[2 * t + 8 * i + 1][g] = gpu_high_bf16(m->b[i]);
    }
    for (int i = 0; i < 4; ++i)
      d[g + i / 2 * 8][2 * t + i % 2] = m->d[i];
  }
  for (int i = 0; i < 16; ++i) {
    float sum[8] = {0};
    for (int k = 0; k < 16; ++k)
      for (int j = 0; j < 8; ++j)
        sum[j] += a[i][k] * b[k][j];
    for (int j = 0; j < 8; ++j)
      d[i][j] += sum[j];
  }
  for (int lane = 0; lane < LANES; ++lane) {
    const emulated_mma *m = (const emulated_mma *)lane_arguments(warp, lane);
    for (int i = 0; i < 4; ++i)
      m->d[i] = d[lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2];
  }
}

static void load_matrices(int warp, bool transposed) {
  uint16_t matrix[4][8][8];
  for (int lane = 0; lane < LANES; ++lane) {
    const void *row = ((const emulated_load *)lane_arguments(warp, lane))->row;
    require_shared("gpu_load_matrix", row);
    memcpy(matrix[lane / 8][lane % 8], row, 16);
  }
  for (int lane = 0; lane < LANES; ++lane) {
    uint32_t *r = ((const emulated_load *)lane_arguments(warp, lane))->r;
    int row = lane / 4, column = 2 * (lane % 4);
    for (int m = 0; m < 4; ++m)
      r[m] = transposed ? matrix[m][column][row] | (uint32_t)matrix[m][column + 1][row] << 16
                        : matrix[m][row][column] | (uint32_t)matrix[m][row][column + 1] << 16;
  }
}

static void operate(int warp, emulated_operation operation) {
  switch (operation) {
  case EMULATED_SHUFFLE:
    for (int lane = 0; lane < LANES; ++lane) {
      emulated_shuffle *shuffle = (emulated_shuffle *)lane_arguments(warp, lane);
      if (shuffle->lane < 0 || shuffle->lane >= LANES)
        emulated_abort("gpu_shuffle from lane %d", shuffle->lane);
      shuffle->result = ((const emulated_shuffle *)lane_arguments(warp, shuffle->lane))->value;
    }
    break;
  case EMULATED_BALLOT: {
    uint32_t bits = 0;
    for (int lane = 0; lane < LANES; ++lane)
      bits |= (uint32_t)((const emulated_ballot *)lane_arguments(warp, lane))->predicate << lane;
    for (int lane = 0; lane < LANES; ++lane)
      ((emulated_ballot *)lane_arguments(warp, lane))->result = bits;
    break;
  }
  case EMULATED_MMA:
    multiply(warp);
    break;
  case EMULATED_LOAD_MATRIX:
  case EMULATED_LOAD_MATRIX_TRANSPOSED:
    load_matrices(warp, operation == EMULATED_LOAD_MATRIX_TRANSPOSED);
    break;
  case EMULATED_SYNC_WARP:
  case EMULATED_NONE:
    break;
  }
}

static void wait_as(fiber_status status) {
  emulated_fiber *fiber = this_fiber();
  fiber->status = status;
  --emulator.warps[fiber->warp].ready;
  fiber_switch(&fiber->context, &emulator.scheduler, status == DONE);
}

void emulated_meet(emulated_operation operation, void *arguments) {
  emulated_fiber *fiber = this_fiber();
  emulated_warp *warp = &emulator.warps[fiber->warp];
  if (warp->size != LANES || warp->exited)
    emulated_abort("a warp operation in a warp of %d threads, %d of which have returned", warp->size,
                   warp->exited);
  if (warp->arrived && warp->operation != operation)
    emulated_abort("lanes of one warp are at different operations (%d and %d)", (int)warp->operation,
                   (int)operation);
  warp->operation = operation;
  fiber->arguments = arguments;
  if (++warp->arrived < LANES) {
    wait_as(WAITS_FOR_WARP);
    return;
  }
  operate(fiber->warp, operation);
  for (int lane = 0; lane < LANES; ++lane)
    emulator.fibers[fiber->warp * LANES + lane].status = READY;
  warp->ready = LANES;
  warp->arrived = 0;
}

void emulated_sync_block(void) {
  if (emulator.n_done)
    emulated_abort("gpu_sync_block after %d of the block's %d threads have returned", emulator.n_done,
                   emulator.n_thread);
  if (++emulator.n_at_barrier < emulator.n_thread) {
    wait_as(WAITS_FOR_BLOCK);
    return;
  }
  emulator.n_at_barrier = 0;
  for (int i = 0; i < emulator.n_thread; ++i)
    emulator.fibers[i].status = READY;
  for (int w = 0; w < emulator.n_warp; ++w)
    emulator.warps[w].ready = emulator.warps[w].size;
}

static void run_fiber(void) {
  fiber_started(&emulator.scheduler);
  emulator.body(emulator.arguments);
  emulated_fiber *fiber = this_fiber();
  emulated_warp *warp = &emulator.warps[fiber->warp];
  if (warp->arrived)
    emulated_abort("a thread returns while %d lanes of its warp wait for it", warp->arrived);
  if (emulator.n_at_barrier)
    emulated_abort("a thread returns while %d threads wait for it in gpu_sync_block", emulator.n_at_barrier);
  ++warp->exited;
  ++emulator.n_done;
  wait_as(DONE);
}

// Lets the ready lanes of a warp run until none is.
static void run_warp(int w, bool backwards) {
  emulated_warp *warp = &emulator.warps[w];
  while (warp->ready)
    for (int i = 0; i < warp->size; ++i) {
      emulated_fiber *fiber = &emulator.fibers[w * LANES + (backwards ? warp->size - 1 - i : i)];
      if (fiber->status != READY)
        continue;
      emulator.current = fiber;
      emulated_thread = &fiber->state;
      fiber_switch(&emulator.scheduler, &fiber->context, false);
      emulator.current = NULL;
    }
}

static uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

static void run_block(dim3 grid, dim3 block, uint64_t index) {
  ++emulator.blocks;
  emulator.n_thread = (int)(block.x * block.y * block.z);
  emulator.n_warp = (emulator.n_thread + LANES - 1) / LANES;
  emulator.n_done = emulator.n_at_barrier = emulator.n_array = 0;
  emulator.static_bytes = 0;
  memset(emulator.shared, 0xff, emulator.shared_bytes);
  for (int w = 0; w < emulator.n_warp; ++w) {
    int size = emulator.n_thread - w * LANES < LANES ? emulator.n_thread - w * LANES : (int)LANES;
    emulator.warps[w] = (emulated_warp){size, size, 0, 0, EMULATED_NONE};
  }
  for (int i = 0; i < emulator.n_thread; ++i) {
    emulated_fiber *fiber = &emulator.fibers[i];
    unsigned int u = (unsigned int)i;
    fiber->state.thread = {u % block.x, u / block.x % block.y, u / (block.x * block.y)};
    fiber->state.block = {(unsigned int)(index % grid.x), (unsigned int)(index / grid.x % grid.y),
                          (unsigned int)(index / ((uint64_t)grid.x * grid.y))};
    fiber->state.block_size = block;
    fiber->state.grid_size = grid;
    fiber->state.dynamic_shared = emulator.shared;
    fiber->status = READY;
    fiber->warp = i / LANES;
    fiber->n_copy = fiber->group = 0;
    fiber_start(&fiber->context, run_fiber);
  }
  uint64_t order = mix(emulator.blocks * 0x9E3779B97F4A7C15ull);
  while (emulator.n_done < emulator.n_thread) {
    bool progress = false;
    int first = (int)((order >> 2) % (uint64_t)emulator.n_warp);
    for (int i = 0; i < emulator.n_warp; ++i) {
      int w = (first + (order & 1 ? i : emulator.n_warp - i)) % emulator.n_warp;
      progress |= emulator.warps[w].ready > 0;
      run_warp(w, order & 2);
    }
    order = mix(order + 1);
    if (!progress)
      emulated_abort(
          "deadlock: of %d threads %d wait in gpu_sync_block, %d have returned, the others wait for "
          "their warp",
          emulator.n_thread, emulator.n_at_barrier, emulator.n_done);
  }
  for (size_t i = emulator.shared_bytes; i < (emulator.shared_bytes + 127) / 128 * 128; ++i)
    if (emulator.shared[i] != CANARY)
      emulated_abort("wrote beyond its %zu bytes of dynamic shared memory", emulator.shared_bytes);
}

static void run_launch(const char *name, dim3 grid, dim3 block, size_t shared_bytes, emulated_body body,
                       const void *arguments) {
  emulated_device_work();
  ++emulator.launches;
  emulator.kernel = name;
  emulator.body = body;
  emulator.arguments = arguments;
  size_t rounded = (shared_bytes + 127) / 128 * 128;
  emulator.shared = emulator.shared_region + 256 * 1024 - rounded;
  emulator.shared_bytes = shared_bytes;
  memset(emulator.shared, CANARY, rounded);
  struct sigaction saved[2];
  catch_bad_access(saved, true);
  uint64_t n_block = (uint64_t)grid.x * grid.y * grid.z;
  for (uint64_t b = 0; b < n_block; ++b)
    run_block(grid, block, emulator.launches % 2 ? b : n_block - 1 - b);
  catch_bad_access(saved, false);
  emulator.kernel = NULL;
}

// A launch in a captured graph; the arguments' bytes follow.
struct alignas(64) recorded_launch {
  const char *name;
  dim3 grid, block;
  size_t shared_bytes;
  emulated_body body;
};

static void run_recorded(void *data) {
  const recorded_launch *launch = (const recorded_launch *)data;
  run_launch(launch->name, launch->grid, launch->block, launch->shared_bytes, launch->body, launch + 1);
}

void emulated_launch(const void *kernel, const char *name, dim3 grid, dim3 block, size_t shared_bytes,
                     cudaStream_t stream, emulated_body body, const void *arguments, size_t argument_bytes) {
  if (emulator.kernel)
    emulated_abort("a launch from device code");
  if (!emulator.prepared)
    prepare();
  size_t allowed = SHARED_DEFAULT;
  for (int i = 0; i < emulator.n_allowed; ++i)
    if (emulator.allowed[i].kernel == kernel && (size_t)emulator.allowed[i].shared_bytes > allowed)
      allowed = (size_t)emulator.allowed[i].shared_bytes;
  uint64_t n_thread = (uint64_t)block.x * block.y * block.z;
  if (n_thread == 0 || n_thread > MOST_THREADS || block.z > 64 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
      grid.x > INT_MAX || grid.y > 65535 || grid.z > 65535) {
    emulated_set_error(cudaErrorInvalidConfiguration);
    return;
  }
  if (shared_bytes > allowed) {
    emulated_set_error(cudaErrorInvalidValue);
    return;
  }
  if (!emulated_recording(stream)) {
    run_launch(name, grid, block, shared_bytes, body, arguments);
    return;
  }
  void *record = emulated_record(run_recorded, sizeof(recorded_launch) + argument_bytes);
  *(recorded_launch *)record = {name, grid, block, shared_bytes, body};
  memcpy((recorded_launch *)record + 1, arguments, argument_bytes);
}
