// A run folder: its paths, one process at a time in it, and what an earlier run left there.
#ifndef SELFSPAN_TRAIN_FOLDER_H
#define SELFSPAN_TRAIN_FOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

typedef struct train_folder train_folder;

typedef enum {
  TRAIN_FOLDER_NEW,       // an earlier run is an error that names one of its files
  TRAIN_FOLDER_RESUME,    // an earlier run is kept
  TRAIN_FOLDER_OVERWRITE  // an earlier run is removed by train_folder_clear
} train_folder_use;

// Creates the folder where needed and locks it until it is closed (or the process ends): a second training in the
// same folder is refused. Temporary files of a killed run are removed.
ss_status train_folder_open(train_folder **out, const char *path, train_folder_use use, ss_error *error);
// Removes an earlier run's files: checkpoints, metrics, outcome, weights. Others are left alone.
ss_status train_folder_clear(train_folder *folder, ss_error *error);
// Unlocks; NULL is allowed.
void train_folder_close(train_folder *folder);

// Paths inside; they live as long as the folder.
const char *train_folder_config(const train_folder *folder);       // OUT/config.json
const char *train_folder_metrics(const train_folder *folder);      // OUT/metrics.csv
const char *train_folder_best(const train_folder *folder);         // OUT/best.h5
const char *train_folder_model(const train_folder *folder);        // OUT/model.h5
const char *train_folder_outcome(const train_folder *folder);      // OUT/train.json
const char *train_folder_checkpoints(const train_folder *folder);  // OUT/checkpoints

// *path = the malloc'ed name of a step's checkpoint.
ss_status train_folder_checkpoint(const train_folder *folder, int64_t step, char **path, ss_error *error);
// Steps of the checkpoints present, ascending (malloc'ed; NULL when there are none).
ss_status train_folder_steps(const train_folder *folder, int64_t **steps, int64_t *count, ss_error *error);
// Removes the oldest checkpoints until `keep` are left.
ss_status train_folder_rotate(const train_folder *folder, int64_t keep, ss_error *error);

#endif
