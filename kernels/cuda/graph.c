// Graphs: ops captured from the device's stream, launched as one. Kernels launched early (programmatic dependent launch)
// stay so inside a graph.
#include <stdlib.h>

#include "common/memory.h"
#include "kernels/cuda/cuda.h"

struct ss_graph {
  cudaGraphExec_t executable;
  uint64_t n_moved;  // of the device when it was recorded
};

ss_status cuda_refuse_recording(ss_device *device, const char *what) {
  cuda_device *cuda = cuda_of(device);
  if (!cuda->recording)
    return SS_OK;
  cuda->recording_failed = true;
  return ss_fail(&device->error, SS_ERROR_INTERNAL, "cuda: %s cannot be recorded in a graph", what);
}

ss_status cuda_graph_begin(ss_device *device) {
  cuda_device *cuda = cuda_of(device);
  SS_TRY(cuda_refuse_recording(device, "graph_begin"));
  // Of this thread's calls only those that the capture cannot hold are refused; other threads are not concerned.
  CUDA_TRY(device, cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal));
  cuda->recording = true;
  cuda->recording_failed = false;
  return SS_OK;
}

static ss_status instantiate(ss_device *device, cudaGraph_t captured, ss_graph **graph) {
  ss_graph *made = NULL;
  SS_TRY(ss_allocate(&made, 1, sizeof *made, "a graph", &device->error));
  made->n_moved = cuda_of(device)->n_moved;
  cudaError_t code = cudaGraphInstantiate(&made->executable, captured, 0);
  if (code != cudaSuccess) {
    free(made);
    CUDA_TRY(device, code);
  }
  *graph = made;
  // The first launch then costs no more than the others.
  code = cudaGraphUpload(made->executable, cuda_of(device)->stream);
  if (code != cudaSuccess) {
    cuda_graph_free(device, made);
    *graph = NULL;
  }
  CUDA_TRY(device, code);
  return SS_OK;
}

ss_status cuda_graph_end(ss_device *device, ss_graph **graph) {
  cuda_device *cuda = cuda_of(device);
  *graph = NULL;
  CUDA_REQUIRE(device, cuda->recording, "graph_end without graph_begin");
  cuda->recording = false;
  cudaGraph_t captured = NULL;
  cudaError_t code = cudaStreamEndCapture(cuda->stream, &captured);
  ss_status status = SS_OK;
  // What was refused is the cause of whatever the capture says.
  if (cuda->recording_failed) {
    cudaGetLastError();
    status = ss_fail(&device->error, SS_ERROR_INTERNAL,
                     "cuda: the graph is not complete: an op in it was refused");
  } else if (code != cudaSuccess) {
    status = cuda_failed(device, code, "cudaStreamEndCapture", __FILE__, __LINE__);
  } else {
    status = instantiate(device, captured, graph);
  }
  if (captured)
    cudaGraphDestroy(captured);
  return status;
}

ss_status cuda_graph_launch(ss_device *device, ss_graph *graph) {
  SS_TRY(cuda_refuse_recording(device, "graph_launch"));
  CUDA_REQUIRE(device, cuda_graph_valid(device, graph),
               "graph_launch: memory that the graph uses was moved since it was recorded");
  CUDA_TRY(device, cudaGraphLaunch(graph->executable, cuda_of(device)->stream));
  return SS_OK;
}

bool cuda_graph_valid(ss_device *device, const ss_graph *graph) {
  return graph && graph->n_moved == cuda_of(device)->n_moved;
}

void cuda_graph_free(ss_device *device, ss_graph *graph) {
  if (!graph)
    return;
  cudaStreamSynchronize(cuda_of(device)->stream);  // it may still run
  cudaGraphExecDestroy(graph->executable);
  free(graph);
}

void cuda_graph_abandon(ss_device *device) {
  cudaGraph_t captured = NULL;
  if (!cuda_of(device)->recording)
    return;
  cuda_of(device)->recording = false;
  cudaStreamEndCapture(cuda_of(device)->stream, &captured);
  if (captured)
    cudaGraphDestroy(captured);
}
