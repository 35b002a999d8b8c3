#include "common/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// Messages are one line by contract, but quoted input may hold anything.
static void flatten(char *text) {
  for (; *text != '\0'; text++)
    if (*text == '\n' || *text == '\r' || *text == '\t')
      *text = ' ';
}

static ss_status record(ss_error *error, ss_status status, int code, const char *format, va_list arguments) {
  if (error == NULL || error->status != SS_OK)
    return status;
  error->status = status;
  int length = vsnprintf(error->message, sizeof error->message, format, arguments);
  if (length < 0)
    length = 0;
  if (code != 0 && (size_t)length < sizeof error->message)
    snprintf(error->message + length, sizeof error->message - (size_t)length, ": %s", strerror(code));
  flatten(error->message);
  return status;
}

ss_status ss_fail(ss_error *error, ss_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  record(error, status, 0, format, arguments);
  va_end(arguments);
  return status;
}

ss_status ss_fail_errno(ss_error *error, ss_status status, const char *format, ...) {
  int code = errno;  // formatting may change it
  va_list arguments;
  va_start(arguments, format);
  record(error, status, code, format, arguments);
  va_end(arguments);
  return status;
}

ss_status ss_error_context(ss_error *error, const char *format, ...) {
  if (error == NULL)
    return SS_ERROR_INTERNAL;  // the status is unknown, but a failure must stay a failure
  if (error->status == SS_OK)
    return SS_OK;
  char message[sizeof error->message];
  memcpy(message, error->message, sizeof message);
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(error->message, sizeof error->message, format, arguments);
  va_end(arguments);
  if (length < 0)
    length = 0;
  size_t used = (size_t)length < sizeof message ? (size_t)length : sizeof message - 1;
  size_t room = sizeof message - 1 - used, kept = strlen(message) + 2;
  // Cutting the end of a long message is intended, so no format that could warn of it.
  memmove(message + 2, message, sizeof message - 2);
  memcpy(message, ": ", 2);
  memcpy(error->message + used, message, kept < room ? kept : room);
  error->message[used + (kept < room ? kept : room)] = '\0';
  flatten(error->message);
  return error->status;
}

void ss_error_clear(ss_error *error) {
  if (error == NULL)
    return;
  error->status = SS_OK;
  error->message[0] = '\0';
}
