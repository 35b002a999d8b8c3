// selfspan export rows.
#ifndef SELFSPAN_COMMANDS_EXPORT_ROWS_H
#define SELFSPAN_COMMANDS_EXPORT_ROWS_H

#include "common/error.h"

// argv[0] is "rows".
ss_status export_rows_command(int argc, char **argv, ss_error *error);

#endif
