// The reader's I/O thread and its ring of batches. The thread alone touches the store while it runs; what it puts
// into the ring depends on the stream only, never on who is faster.
#include "data/reader.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "common/memory.h"
#include "data/reader_stream.h"

#define RING 4  // batches: one with the caller, the others ahead

typedef struct {
  reader_batch batch;
  int64_t examples;  // delivered when this batch has been
} slot;

struct reader {
  reader_stream stream;  // the thread's while it runs
  int64_t position, examples;
  slot ring[RING];
  bool running;
  pthread_t thread;
  pthread_mutex_t mutex;
  pthread_cond_t filled, emptied;
  // Under the mutex: batches produced and released since the thread started; produced - released <= RING.
  int64_t produced, released;
  bool stop;
  bool failed;     // after the batches produced so far
  ss_error error;  // why
  bool holding;    // the caller has batch number `released`
};

static void *produce(void *argument) {
  reader *reader = argument;
  pthread_mutex_lock(&reader->mutex);
  while (!reader->stop && !reader->failed) {
    if (reader->produced - reader->released == RING) {
      pthread_cond_wait(&reader->emptied, &reader->mutex);
      continue;
    }
    slot *next = &reader->ring[reader->produced % RING];
    pthread_mutex_unlock(&reader->mutex);
    ss_error error = {0};
    ss_status status = reader_stream_next(&reader->stream, &next->batch, &error);
    next->examples = reader->stream.examples;
    pthread_mutex_lock(&reader->mutex);
    if (status == SS_OK) {
      ++reader->produced;
    } else {
      reader->failed = true;
      reader->error = error;
    }
    pthread_cond_signal(&reader->filled);
  }
  pthread_mutex_unlock(&reader->mutex);
  return NULL;
}

static ss_status start(reader *reader, ss_error *error) {
  // Signals are the main thread's: it saves and stops.
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int code = pthread_create(&reader->thread, NULL, produce, reader);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  if (code != 0)
    return ss_fail(error, SS_ERROR_MEMORY, "%s: cannot start the reading thread (code %d)",
                   store_path(reader->stream.store), code);
  reader->running = true;
  return SS_OK;
}

static void stop(reader *reader) {
  if (reader->running) {
    pthread_mutex_lock(&reader->mutex);
    reader->stop = true;
    pthread_cond_signal(&reader->emptied);
    pthread_mutex_unlock(&reader->mutex);
    pthread_join(reader->thread, NULL);
    reader->running = false;
  }
  reader->produced = reader->released = 0;
  reader->stop = reader->failed = reader->holding = false;
  ss_error_clear(&reader->error);
}

ss_status reader_open(reader **out, store *store, const reader_options *options, ss_error *error) {
  reader *opened = NULL;
  SS_TRY(ss_allocate(&opened, 1, sizeof *opened, "reader", error));
  ss_status status = reader_stream_init(&opened->stream, store, options, error);
  if (status != SS_OK) {
    reader_stream_free(&opened->stream);
    free(opened);
    return status;
  }
  pthread_mutex_init(&opened->mutex, NULL);
  pthread_cond_init(&opened->filled, NULL);
  pthread_cond_init(&opened->emptied, NULL);
  *out = opened;
  return SS_OK;
}

// Waits for the next batch; with the mutex held.
static ss_status take(reader *reader, const slot **taken, ss_error *error) {
  if (reader->holding) {
    reader->holding = false;
    ++reader->released;
    pthread_cond_signal(&reader->emptied);
  }
  while (reader->produced == reader->released && !reader->failed)
    pthread_cond_wait(&reader->filled, &reader->mutex);
  if (reader->produced == reader->released)
    return ss_fail(error, reader->error.status, "%s", reader->error.message);
  *taken = &reader->ring[reader->released % RING];
  reader->holding = true;
  return SS_OK;
}

ss_status reader_next(reader *reader, const reader_batch **batch, ss_error *error) {
  if (!reader->running)
    SS_TRY(start(reader, error));
  const slot *taken = NULL;
  pthread_mutex_lock(&reader->mutex);
  ss_status status = take(reader, &taken, error);
  pthread_mutex_unlock(&reader->mutex);
  SS_TRY(status);
  ++reader->position;
  reader->examples = taken->examples;
  *batch = &taken->batch;
  return SS_OK;
}

int64_t reader_position(const reader *reader) {
  return reader->position;
}

ss_status reader_seek(reader *reader, int64_t position, ss_error *error) {
  stop(reader);
  SS_TRY(reader_stream_seek(&reader->stream, position, error));
  reader->position = position;
  reader->examples = reader->stream.examples;
  return SS_OK;
}

double reader_epoch(const reader *reader) {
  return (double)reader->examples / (double)reader->stream.n_example;
}

int64_t reader_examples_seen(const reader *reader) {
  return reader->examples;
}

void reader_close(reader *reader) {
  if (reader == NULL)
    return;
  stop(reader);
  for (int k = 0; k < RING; ++k)
    reader_batch_free(&reader->ring[k].batch);
  pthread_cond_destroy(&reader->emptied);
  pthread_cond_destroy(&reader->filled);
  pthread_mutex_destroy(&reader->mutex);
  reader_stream_free(&reader->stream);
  free(reader);
}
