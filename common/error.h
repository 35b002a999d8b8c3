// Errors: a status code returned by every function that can fail, and a message in a struct that
// the caller owns. Library code never prints and never exits; only main turns an error into text
// and an exit status.
#ifndef SELFSPAN_COMMON_ERROR_H
#define SELFSPAN_COMMON_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SS_PRINTF(format_index, first_argument) __attribute__((format(printf, format_index, first_argument)))
#else
#define SS_PRINTF(format_index, first_argument)
#endif

typedef enum {
  SS_OK = 0,
  SS_ERROR_USAGE = 2,        // the command line or a config is wrong
  SS_ERROR_INPUT = 3,        // a file's content is not what it must be
  SS_ERROR_IO = 4,           // the system refused to read or write
  SS_ERROR_MEMORY = 5,       // an allocation failed
  SS_ERROR_LIMIT = 6,        // a well-formed request exceeds a stated limit
  SS_ERROR_NUMERIC = 7,      // NaN or Inf beyond the permitted number
  SS_ERROR_INTERRUPTED = 8,  // a signal asked to stop; state was saved
  SS_ERROR_DEVICE = 9,       // a backend is absent or failed
  SS_ERROR_INTERNAL = 10     // a broken invariant: a defect of selfspan itself
} ss_status;

// The message of the first failure. Zero-initialise; reuse after ss_error_clear.
typedef struct {
  ss_status status;
  char message[1024];
} ss_error;

// Records `status` and the formatted message in `error` (which may be NULL) and returns `status`.
// An error already recorded is kept: the first failure is the cause. Messages are one line:
// what, where (file, line or field), what was expected.
ss_status ss_fail(ss_error *error, ss_status status, const char *format, ...) SS_PRINTF(3, 4);

// Like ss_fail, with ": strerror(errno)" appended.
ss_status ss_fail_errno(ss_error *error, ss_status status, const char *format, ...) SS_PRINTF(3, 4);

// Puts "prefix: " before a recorded message and returns its status.
ss_status ss_error_context(ss_error *error, const char *format, ...) SS_PRINTF(2, 3);

// Makes the struct ready for the next failure; NULL is allowed.
void ss_error_clear(ss_error *error);

// Evaluates an expression that yields an ss_status and returns it from the function unless it is SS_OK.
#define SS_TRY(expression)                \
  do {                                    \
    ss_status try_status_ = (expression); \
    if (try_status_ != SS_OK)             \
      return try_status_;                 \
  } while (0)

#ifdef __cplusplus
}
#endif

#endif
