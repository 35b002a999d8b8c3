// selfspan export hf.
#ifndef SELFSPAN_COMMANDS_EXPORT_HF_H
#define SELFSPAN_COMMANDS_EXPORT_HF_H

#include "common/error.h"

// argv[0] is "hf".
ss_status export_hf_command(int argc, char **argv, ss_error *error);

#endif
