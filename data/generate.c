#include "data/generate.h"

#include <omp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/memory.h"

// Indices one thread makes at a time: many, because handing over costs a switch between threads; few when few are
// wanted.
#define MOST_IN_BLOCK 1024
#define MOST_ROWS_IN_BLOCK 128  // of a reader, whose rows may be long
#define FEWEST_IN_BLOCK 16
#define MOST_MISSES 20000  // indices in a row without a new example, then a generator is exhausted

// One thread's work: a block's examples until their turn comes.
typedef struct {
  void *scratch;
  example *examples;  // [block]
  rendering *renderings;
  bool *skip;
  const char **reasons;  // of those that are skipped
  ss_error error;
} worker;

// Hashes seen, open addressing; 0 marks a free place.
typedef struct {
  uint64_t *places;
  int64_t n, n_place;
} hash_set;

typedef struct {
  const generate_request *request;
  generate_take take;
  void *user;
  generate_outcome *outcome;
  hash_set seen;
  bool reads;          // the task has so many examples, and no more
  int64_t misses;      // in a row
  const char *reason;  // of the last skipped index
  ss_status status;
  ss_error *error;
  int64_t block;  // indices a block
  atomic_bool done;
  _Atomic int64_t next_block;  // to be made
  int64_t turn;                // block to be handed over, under `lock`
  pthread_mutex_t lock;
  pthread_cond_t turn_over;
} delivery;

static ss_status set_grow(hash_set *set, ss_error *error) {
  hash_set larger = {NULL, set->n, set->n_place == 0 ? 4096 : 2 * set->n_place};
  SS_TRY(ss_allocate(&larger.places, larger.n_place, sizeof *larger.places, "examples seen", error));
  for (int64_t k = 0; k < set->n_place; k++)
    if (set->places[k] != 0) {
      int64_t place = (int64_t)(set->places[k] & (uint64_t)(larger.n_place - 1));
      while (larger.places[place] != 0)
        place = (place + 1) & (larger.n_place - 1);
      larger.places[place] = set->places[k];
    }
  free(set->places);
  *set = larger;
  return SS_OK;
}

static ss_status set_add(hash_set *set, uint64_t hash, bool *known, ss_error *error) {
  if (2 * (set->n + 1) > set->n_place)
    SS_TRY(set_grow(set, error));
  hash += hash == 0;
  int64_t place = (int64_t)(hash & (uint64_t)(set->n_place - 1));
  while (set->places[place] != 0 && set->places[place] != hash)
    place = (place + 1) & (set->n_place - 1);
  *known = set->places[place] == hash;
  set->n += !*known;
  set->places[place] = hash;
  return SS_OK;
}

// The text a model is asked about: all contexts.
static uint64_t content_hash(const example *example) {
  int64_t end = 0;
  for (int64_t s = 0; s < example->n_segment && example->segments[s].kind == SPAN_CONTEXT; s++)
    end = example->segments[s].text_end;
  return XXH3_64bits(example->text, (size_t)end);
}

static ss_status make_block(const generate_request *request, worker *worker, int64_t first, int64_t end) {
  for (int64_t index = first; index < end; index++) {
    int64_t k = index - first;
    worker->skip[k] = false;
    worker->reasons[k] = NULL;
    SS_TRY(request->task->example(request->state, worker->scratch, request->split, index,
                                  &worker->examples[k], &worker->skip[k], &worker->reasons[k],
                                  &worker->error));
    if (!worker->skip[k])
      SS_TRY(render_annotated(&worker->renderings[k], &worker->examples[k], request->vocabulary,
                              request->max_header, &worker->error));
    if (request->stop != NULL && *request->stop != 0)
      return ss_fail(&worker->error, SS_ERROR_INTERRUPTED, "interrupted");
  }
  return SS_OK;
}

static void note_skipped(generate_outcome *outcome, const char *id, const char *reason) {
  int32_t k = 0;
  while (k < outcome->n_reason && strcmp(outcome->reasons[k].reason, reason) != 0)
    k++;
  if (k < GENERATE_MOST_REASONS) {
    outcome->reasons[k].reason = reason;
    outcome->reasons[k].n++;
    outcome->n_reason += k == outcome->n_reason;
  }
  if (outcome->n_named == GENERATE_MOST_NAMED)
    return;
  memcpy(outcome->named[outcome->n_named].id, id, sizeof outcome->named[0].id);
  outcome->named[outcome->n_named++].reason = reason;
}

static ss_status deliver_one(delivery *delivery, worker *worker, int64_t k, ss_error *error) {
  const generate_request *request = delivery->request;
  bool known = false;
  if (worker->skip[k]) {
    delivery->outcome->skipped++;
    if (worker->reasons[k] != NULL)
      delivery->reason = worker->reasons[k];
    if (worker->reasons[k] != NULL && delivery->reads)
      note_skipped(delivery->outcome, worker->examples[k].id, worker->reasons[k]);
  } else if (request->distinct) {
    SS_TRY(set_add(&delivery->seen, content_hash(&worker->examples[k]), &known, error));
    delivery->outcome->duplicates += known;
    if (known)
      delivery->reason = "the others were there already";
  }
  if (!worker->skip[k] && !known) {
    delivery->misses = 0;
    SS_TRY(delivery->take(delivery->user, &worker->examples[k], &worker->renderings[k], error));
    if (++delivery->outcome->examples == request->count)
      atomic_store(&delivery->done, true);
    return SS_OK;
  }
  if (++delivery->misses >= MOST_MISSES && !delivery->reads)
    return ss_fail(error, SS_ERROR_LIMIT, "%s: only %lld of %lld examples found, then none in %d tries (%s)",
                   data_split_name(request->split), (long long)delivery->outcome->examples,
                   (long long)request->count, MOST_MISSES, delivery->reason);
  return SS_OK;
}

static void deliver_block(delivery *delivery, worker *worker, ss_status status, int64_t n) {
  if (status != SS_OK)
    status = ss_fail(delivery->error, status, "%s", worker->error.message);
  for (int64_t k = 0; status == SS_OK && k < n && !atomic_load(&delivery->done); k++)
    status = deliver_one(delivery, worker, k, delivery->error);
  if (status != SS_OK) {
    delivery->status = status;
    atomic_store(&delivery->done, true);
  }
}

// One thread: takes the next block, makes it, waits for its turn, hands it over. Waiting sleeps: the threads may
// outnumber the cores.
static void work(delivery *delivery, worker *worker, int64_t available) {
  while (!atomic_load(&delivery->done)) {
    int64_t block = atomic_fetch_add(&delivery->next_block, 1);
    int64_t first = block * delivery->block, end = first + delivery->block;
    if (available >= 0 && first >= available)
      return;
    if (available >= 0 && end > available)
      end = available;
    ss_status status = make_block(delivery->request, worker, first, end);
    pthread_mutex_lock(&delivery->lock);
    while (delivery->turn != block && !atomic_load(&delivery->done))
      pthread_cond_wait(&delivery->turn_over, &delivery->lock);
    if (!atomic_load(&delivery->done))
      deliver_block(delivery, worker, status, end - first);
    delivery->turn++;
    pthread_cond_broadcast(&delivery->turn_over);
    pthread_mutex_unlock(&delivery->lock);
  }
}

static void free_workers(const generate_request *request, worker *workers, int32_t n_thread, int64_t block) {
  for (int32_t t = 0; workers != NULL && t < n_thread; t++) {
    worker *worker = &workers[t];
    if (request->task->scratch_free != NULL && worker->scratch != NULL)
      request->task->scratch_free(worker->scratch);
    for (int64_t k = 0; k < block; k++) {
      if (worker->examples != NULL)
        example_free(&worker->examples[k]);
      if (worker->renderings != NULL)
        rendering_free(&worker->renderings[k]);
    }
    free(worker->examples);
    free(worker->renderings);
    free(worker->skip);
    free(worker->reasons);
  }
  free(workers);
}

static ss_status make_worker(const generate_request *request, worker *worker, int64_t block,
                             ss_error *error) {
  SS_TRY(ss_allocate(&worker->examples, block, sizeof *worker->examples, "examples", error));
  SS_TRY(ss_allocate(&worker->renderings, block, sizeof *worker->renderings, "renderings", error));
  SS_TRY(ss_allocate(&worker->skip, block, sizeof *worker->skip, "examples", error));
  SS_TRY(ss_allocate(&worker->reasons, block, sizeof *worker->reasons, "examples", error));
  return request->task->scratch_create == NULL
             ? SS_OK
             : request->task->scratch_create(request->state, &worker->scratch, error);
}

static int64_t block_size(int64_t count, int64_t available, int32_t n_thread) {
  int64_t wanted = count < 0 ? available : count, most = available < 0 ? MOST_IN_BLOCK : MOST_ROWS_IN_BLOCK;
  int64_t block = wanted / (4 * (int64_t)n_thread);
  return block < FEWEST_IN_BLOCK ? FEWEST_IN_BLOCK : block > most ? most : block;
}

ss_status generate_examples(const generate_request *request, generate_take take, void *user,
                            generate_outcome *outcome, ss_error *error) {
  int32_t n_thread = request->n_thread > 0 ? request->n_thread : omp_get_max_threads();
  int64_t available = request->task->count(request->state, request->split);
  delivery delivery = {.request = request,
                       .take = take,
                       .user = user,
                       .outcome = outcome,
                       .error = error,
                       .reads = available >= 0};
  worker *workers = NULL;
  memset(outcome, 0, sizeof *outcome);
  if (available < 0 && request->count < 0)
    return ss_fail(error, SS_ERROR_USAGE, "%s: task %s generates without end, expected a number of examples",
                   data_split_name(request->split), request->task->name);
  if (request->count == 0)
    return SS_OK;
  SS_TRY(ss_allocate(&workers, n_thread, sizeof *workers, "generator threads", error));
  ss_status status = SS_OK;
  delivery.block = block_size(request->count, available, n_thread);
  for (int32_t t = 0; status == SS_OK && t < n_thread; t++)
    status = make_worker(request, &workers[t], delivery.block, error);
  if (status == SS_OK) {
    pthread_mutex_init(&delivery.lock, NULL);
    pthread_cond_init(&delivery.turn_over, NULL);
#pragma omp parallel num_threads(n_thread)
    work(&delivery, &workers[omp_get_thread_num()], available);
    pthread_cond_destroy(&delivery.turn_over);
    pthread_mutex_destroy(&delivery.lock);
    status = delivery.status;
  }
  if (status == SS_OK && available > 0 && outcome->examples == 0)
    status = ss_fail(error, SS_ERROR_INPUT, "%s: no row of %lld can be used (the last: %s)",
                     data_split_name(request->split), (long long)available,
                     delivery.reason == NULL ? "no reason known" : delivery.reason);
  if (status == SS_OK && request->count > outcome->examples)
    status = ss_fail(error, SS_ERROR_LIMIT, "%s: %lld examples asked for, task %s has %lld",
                     data_split_name(request->split), (long long)request->count, request->task->name,
                     (long long)outcome->examples);
  free_workers(request, workers, n_thread, delivery.block);
  free(delivery.seen.places);
  return status;
}
