// The device that a command computes on, as its options.
#ifndef SELFSPAN_COMMANDS_DEVICE_OPTIONS_H
#define SELFSPAN_COMMANDS_DEVICE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/cli.h"
#include "common/error.h"
#include "kernels/kernels.h"

typedef struct {
  const char *name, *precision, *attention;
  int64_t threads;
  bool deterministic;
} device_options;

#define DEVICE_DEFAULTS \
  { "cpu", "bf16", "auto", 0, false }

// Rows of a command's option table.
#define DEVICE_OPTIONS(o)                                                                            \
  {"device", SS_OPTION_STRING, &(o).name, "NAME", "cpu or cuda (cpu)"},                              \
      {"threads", SS_OPTION_INT, &(o).threads, "N",                                                  \
       "CPU threads; 0: all (the result does not depend on it)"},                                    \
      {"precision", SS_OPTION_STRING, &(o).precision, "NAME",                                        \
       "on CUDA: bf16, tf32 or fp32 (bf16); the CPU computes in fp32"},                              \
      {"attention", SS_OPTION_STRING, &(o).attention, "NAME",                                        \
       "on CUDA: auto, tiled, plain or cudnn, the kernels that serve attention (auto)"},             \
  {                                                                                                  \
    "deterministic", SS_OPTION_FLAG, &(o).deterministic, NULL, "on CUDA: the same bits in every run" \
  }

// Refuses what cannot be meant, before anything is opened or read.
ss_status device_options_check(const device_options *options, ss_error *error);
ss_status device_options_open(ss_device **out, const device_options *options, ss_error *error);
// Says on stderr what runs. Returns how much of the description was said.
size_t device_say(const ss_device *device);
// Says what the description has gained since: which kernels served. Nothing to say: says nothing.
void device_say_more(const ss_device *device, size_t said);

#endif
