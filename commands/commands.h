// The subcommands. Each parses argv[1..] by its own option table (argv[0] is its name), prints its
// result to stdout, and leaves the text of a failure in `error`; main turns that into a message and an
// exit status.
#ifndef SELFSPAN_COMMANDS_COMMANDS_H
#define SELFSPAN_COMMANDS_COMMANDS_H

#include "common/error.h"

// Generates or imports a dataset.
ss_status ss_command_data(int argc, char **argv, ss_error *error);
// Turns another program's pre-trained model into a model file.
ss_status ss_command_import(int argc, char **argv, ss_error *error);
// Trains or fine-tunes a model.
ss_status ss_command_train(int argc, char **argv, ss_error *error);
// Continues prompts, selecting spans on the way.
ss_status ss_command_generate(int argc, char **argv, ss_error *error);
// Measures accuracy, attended rows and speed.
ss_status ss_command_eval(int argc, char **argv, ss_error *error);
// Times training and decoding on this machine.
ss_status ss_command_bench(int argc, char **argv, ss_error *error);
// Shows an example: segments, references, what each token may read.
ss_status ss_command_inspect(int argc, char **argv, ss_error *error);
// Writes data, results and notebooks in other formats.
ss_status ss_command_export(int argc, char **argv, ss_error *error);

#endif
