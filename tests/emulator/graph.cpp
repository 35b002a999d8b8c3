// Stream capture and graphs: a list of work with the bytes that it needs.
#include "tests/emulator/runtime.h"

#include <stdlib.h>

struct recorded_work {
  recorded_work *next;
  void (*run)(void *data);
  void *data;
};

// A graph, and an executable one.
struct emulated_graph {
  recorded_work *first;
};

static struct {
  bool active, spoiled;
  cudaStream_t stream;
  recorded_work *first, **end;
} capture;

static cudaError_t failed(cudaError_t error) {
  emulated_set_error(error);
  return error;
}

static void free_work(recorded_work *first) {
  while (first) {
    recorded_work *next = first->next;
    free(first->data);
    free(first);
    first = next;
  }
}

bool emulated_recording(cudaStream_t stream) {
  return capture.active && stream == capture.stream;
}

bool emulated_capture_spoiled(void) {
  capture.spoiled |= capture.active;
  return capture.active;
}

void *emulated_record(void (*run)(void *data), size_t bytes) {
  recorded_work *work = (recorded_work *)calloc(1, sizeof *work);
  if (!work || posix_memalign(&work->data, 64, (bytes + 63) / 64 * 64) != 0)
    emulated_abort("out of memory");
  work->run = run;
  *capture.end = work;
  capture.end = &work->next;
  return work->data;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (capture.active || !stream)
    return failed(cudaErrorStreamCaptureUnsupported);
  capture.active = true;
  capture.spoiled = false;
  capture.stream = stream;
  capture.first = NULL;
  capture.end = &capture.first;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  *graph = NULL;
  if (!emulated_recording(stream))
    return failed(cudaErrorInvalidValue);
  capture.active = false;
  if (capture.spoiled) {
    free_work(capture.first);
    return failed(cudaErrorStreamCaptureInvalidated);
  }
  *graph = (cudaGraph_t)calloc(1, sizeof **graph);
  if (!*graph)
    emulated_abort("out of memory");
  (*graph)->first = capture.first;
  return cudaSuccess;
}

// The executable takes the work over: a graph serves once.
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long) {
  if (capture.active)
    return emulated_capture_spoiled(), failed(cudaErrorStreamCaptureUnsupported);
  *executable = (cudaGraphExec_t)calloc(1, sizeof **executable);
  if (!*executable)
    emulated_abort("out of memory");
  (*executable)->first = graph->first;
  graph->first = NULL;
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (emulated_recording(stream))
    return emulated_capture_spoiled(), failed(cudaErrorStreamCaptureUnsupported);
  for (recorded_work *work = executable->first; work; work = work->next)
    work->run(work->data);
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  if (graph)
    free_work(graph->first);
  free(graph);
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return cudaGraphDestroy(executable);
}
